// The Fastfood map's stretches in AVX-512: 8 blocks of Philox, 32 normals at a time.
#include "graft/ops/fastfood_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#pragma GCC target("avx512f")
// Contracted products would round otherwise than in the other forms.
#pragma GCC optimize("fp-contract=off")
// GCC 12 takes the intrinsics' undefined operands for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define GRAFT_FASTFOOD_NAMESPACE fastfood_of_avx512
#include "graft/ops/fastfood_kernel.h"

namespace graft::ops {
namespace {

struct Avx512 : fastfood_of_avx512::Vectors<64> {
  static Wide low_product(Wide a, Wide b) {
    return reinterpret_cast<Wide>(
        _mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
  }
  static Float root(Float x) { return _mm512_sqrt_ps(x); }
  static Float gather(const float* table, Word index) {
    return _mm512_i32gather_ps(reinterpret_cast<__m512i>(index), table, 4);
  }
};

}  // namespace

const FastfoodBlocks* fastfood_avx512() {
  return __builtin_cpu_supports("avx512f") ? &fastfood_of_avx512::Kernel<Avx512>::kBlocks : nullptr;
}

}  // namespace graft::ops
#else
namespace graft::ops {
const FastfoodBlocks* fastfood_avx512() { return nullptr; }
}  // namespace graft::ops
#endif
