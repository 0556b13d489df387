// The Fastfood map's stretches in AVX2: 4 blocks of Philox, 16 normals at a time.
#include "graft/ops/fastfood_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#pragma GCC target("avx2")
// Contracted products would round otherwise than in the other forms.
#pragma GCC optimize("fp-contract=off")
// GCC 12 takes the intrinsics' undefined operands for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define GRAFT_FASTFOOD_NAMESPACE fastfood_of_avx2
#include "graft/ops/fastfood_kernel.h"

namespace graft::ops {
namespace {

struct Avx2 : fastfood_of_avx2::Vectors<32> {
  static Wide low_product(Wide a, Wide b) {
    return reinterpret_cast<Wide>(
        _mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
  }
  static Float root(Float x) { return _mm256_sqrt_ps(x); }
  /// Eight loads: quicker than the instruction that gathers.
  static Float gather(const float* table, Word index) {
    alignas(32) uint32_t i[kLanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(i), reinterpret_cast<__m256i>(index));
    return Float{table[i[0]], table[i[1]], table[i[2]], table[i[3]],
                 table[i[4]], table[i[5]], table[i[6]], table[i[7]]};
  }
};

}  // namespace

const FastfoodBlocks* fastfood_avx2() {
  return __builtin_cpu_supports("avx2") ? &fastfood_of_avx2::Kernel<Avx2>::kBlocks : nullptr;
}

}  // namespace graft::ops
#else
namespace graft::ops {
const FastfoodBlocks* fastfood_avx2() { return nullptr; }
}  // namespace graft::ops
#endif
