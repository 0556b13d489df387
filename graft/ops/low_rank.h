// The low-rank update of a linear map's output.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// y + scale · (x Aᵀ) Bᵀ: y [T, out], x [T, in] of the compute type, a [r, in], b [out, r] float32 (gradients
/// in float32) → [T, out] in y's type. Saves x and x Aᵀ only. Source: Hu et al. 2021.
Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);
Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);

}  // namespace graft::ops
