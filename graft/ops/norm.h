// Normalisations of rows.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// (x - mean) / √(variance + eps) · weight + bias over the last dimension. x [T, n] of any float type;
/// weight, bias [n] of the same type or float32, or undefined; statistics in float32. Source: Ba et al. 2016.
Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);
Tensor layer_norm_plain(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps);

/// x / √(mean(x²) + eps) · weight. Source: Zhang and Sennrich 2019.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Tensor rms_norm_plain(const Tensor& x, const Tensor& weight, double eps);

/// A residual stream after an addition, and its normalised rows: what one pass over memory gives.
struct AddedNorm {
  Tensor sum, normed;  // [T, n] in x's type
};
/// The norm of x + residual, both of one type. The sum is rounded to that type first.
AddedNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                         double eps);
AddedNorm add_layer_norm_plain(const Tensor& x, const Tensor& residual, const Tensor& weight,
                               const Tensor& bias, double eps);
AddedNorm add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps);
AddedNorm add_rms_norm_plain(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps);

}  // namespace graft::ops
