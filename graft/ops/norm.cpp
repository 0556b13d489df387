#include "graft/ops/norm.h"

#include <ATen/ATen.h>

#include "graft/ops/types.h"

namespace graft::ops {

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  return layer_norm_plain(x, weight, bias, eps);
}

Tensor layer_norm_plain(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const auto type = compute_type(x);
  const Tensor wide = x.to(type);
  const Tensor centred = wide - wide.mean(-1, true);
  Tensor y = centred * at::rsqrt(centred.square().mean(-1, true) + eps);
  if (weight.defined()) y = y * weight.to(type);
  if (bias.defined()) y = y + bias.to(type);
  return y.to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) { return rms_norm_plain(x, weight, eps); }

Tensor rms_norm_plain(const Tensor& x, const Tensor& weight, double eps) {
  const auto type = compute_type(x);
  const Tensor wide = x.to(type);
  Tensor y = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  if (weight.defined()) y = y * weight.to(type);
  return y.to(x.scalar_type());
}

}  // namespace graft::ops
