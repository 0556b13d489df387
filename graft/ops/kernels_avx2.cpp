// The kernels for AVX2. Standard headers come before the target, so that no inline function of theirs is made
// for it.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graft/ops/kernels.h"
#include "graft/ops/philox.h"

#pragma GCC target("avx2,fma")
// GCC 12's own intrinsics start from "undefined" lanes that are never read.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace graft::ops::avx2 {

constexpr const char* kName = "avx2";
constexpr bool kTiles = false;

// The lanes come first, the table last.
// clang-format off
#include "graft/ops/simd_avx2.inl"
#include "graft/ops/lane_kernels.inl"
#include "graft/ops/panel_blocked_kernels.inl"
#include "graft/ops/kernel_table.inl"
// clang-format on

}  // namespace graft::ops::avx2
