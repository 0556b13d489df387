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

// The lanes come first, the table last.
// clang-format off
#include "graft/ops/simd_portable.inl"
#include "graft/ops/lane_kernels.inl"
#include "graft/ops/panel_wide_kernels.inl"
#include "graft/ops/kernel_table.inl"
// clang-format on

}  // namespace graft::ops::portable
