// The low-rank update of a linear map's output.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// y + scale · (x Aᵀ) Bᵀ: y [T, out], x [T, in] of the compute type, a [r, in], b [out, r] float32 (gradients
/// in float32) → [T, out] in y's type. Saves x and x Aᵀ only. Source: Hu et al. 2021.
Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);
/// The factors in their products' layouts. Empty until packed; packed anew when they are others, or were
/// written to.
struct PackedLowRank {
  Tensor down, up;  // opaque
  Tensor a, b;      // what they were made from
  uint32_t a_version = 0, b_version = 0;
  at::ScalarType type = at::kFloat;  // of the rows
};
/// The same, where factors stay as they are over many calls; with a gradient wanted `packed` is left alone.
Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale,
                    PackedLowRank& packed);
Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale);

}  // namespace graft::ops
