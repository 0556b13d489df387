// The kernels for AVX-512 with bfloat16 dot products. Standard headers come before the target, so that no
// inline function of theirs is made for it.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graft/ops/kernels.h"
#include "graft/ops/philox.h"

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,f16c")
// GCC 12's own intrinsics start from "undefined" lanes that are never read.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace graft::ops::avx512_bf16 {

constexpr const char* kName = "avx512_bf16";
constexpr bool kTiles = false;

// The lanes come first, the table last.
// clang-format off
#include "graft/ops/simd_avx512.inl"
#include "graft/ops/lane_kernels.inl"
#include "graft/ops/panel_wide_kernels.inl"
#include "graft/ops/kernel_table.inl"
// clang-format on

}  // namespace graft::ops::avx512_bf16
