// The transform's blocks in AVX-512.
#include "graft/ops/hadamard_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f")
#define GRAFT_HADAMARD_NAMESPACE hadamard_of_avx512
#include "graft/ops/hadamard_kernel.h"

namespace graft::ops {

const HadamardBlocks<float>* hadamard_avx512() {
  using Kernel = hadamard_of_avx512::Kernel<hadamard_of_avx512::Float<64>>;
  static constexpr HadamardBlocks<float> kBlocks = {"AVX-512", Kernel::block, Kernel::columns};
  return __builtin_cpu_supports("avx512f") ? &kBlocks : nullptr;
}

}  // namespace graft::ops
#else
namespace graft::ops {
const HadamardBlocks<float>* hadamard_avx512() { return nullptr; }
}  // namespace graft::ops
#endif
