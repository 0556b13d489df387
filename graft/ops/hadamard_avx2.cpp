// The transform's blocks in AVX2.
#include "graft/ops/hadamard_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define GRAFT_HADAMARD_NAMESPACE hadamard_of_avx2
#include "graft/ops/hadamard_kernel.h"

namespace graft::ops {

const HadamardBlocks<float>* hadamard_avx2() {
  using Kernel = hadamard_of_avx2::Kernel<hadamard_of_avx2::Float<32>>;
  static constexpr HadamardBlocks<float> kBlocks = {"AVX2", Kernel::block, Kernel::columns};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kBlocks : nullptr;
}

}  // namespace graft::ops
#else
namespace graft::ops {
const HadamardBlocks<float>* hadamard_avx2() { return nullptr; }
}  // namespace graft::ops
#endif
