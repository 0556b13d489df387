// The kernels for any processor. Standard headers come before the target, so that no inline function of
// theirs is made for it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graft/ops/kernels.h"
#include "graft/ops/philox.h"

namespace graft::ops::portable {

constexpr const char* kName = "portable";
constexpr bool kTiles = false;
constexpr int64_t kPieceRows = 96;

// The lanes come first, the table last.
// clang-format off
#include "graft/ops/simd_portable.inl"
#include "graft/ops/math_kernels.inl"
#include "graft/ops/gemm_kernels.inl"
#include "graft/ops/attention_kernels.inl"
#include "graft/ops/attention_few_kernels.inl"
#include "graft/ops/norm_kernels.inl"
#include "graft/ops/elementwise_kernels.inl"
#include "graft/ops/low_rank_kernels.inl"
#include "graft/ops/panel_kernels.inl"
#include "graft/ops/int8_kernels.inl"
#include "graft/ops/panel_wide_kernels.inl"
#include "graft/ops/kernel_table.inl"
// clang-format on

}  // namespace graft::ops::portable
