// The kernels for AVX-512 with matrix tiles (AMX). Standard headers come before the target, so that no inline
// function of theirs is made for it.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graft/ops/kernels.h"
#include "graft/ops/philox.h"

#pragma GCC target( \
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma,f16c,amx-tile,amx-bf16,amx-int8")
// GCC 12's own intrinsics start from "undefined" lanes that are never read.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace graft::ops::avx512_amx {

constexpr const char* kName = "avx512_amx";
constexpr bool kTiles = true;

// The lanes come first, the table last.
// clang-format off
#include "graft/ops/simd_avx512.inl"
#include "graft/ops/lane_kernels.inl"
#include "graft/ops/tile_kernels.inl"
#include "graft/ops/panel_wide_kernels.inl"
#include "graft/ops/kernel_table.inl"
// clang-format on

bool tiles_allowed() {
  constexpr int64_t kRequest = 0x1023, kTileData = 18;  // Linux: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

}  // namespace graft::ops::avx512_amx
