// The low-rank update of a linear map's output.
#pragma once
#include "graft/ops/low_rank_factors.h"

namespace graft::ops {

/// y + scale · (x Aᵀ) Bᵀ: y [T, out], x [T, in] of the compute type, a [r, in], b [out, r] float32 (gradients
/// in float32) → [T, out] in y's type. Saves x and x Aᵀ only. Source: Hu et al. 2021.
Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);
/// The same, where factors stay as they are over many calls; with a gradient wanted `packed` is left alone.
Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale,
                    PackedLowRank& packed);
Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);

}  // namespace graft::ops
