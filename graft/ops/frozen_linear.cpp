#include "graft/ops/frozen_linear.h"

#include <ATen/ATen.h>

namespace graft::ops {

Tensor frozen_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight&) {
  return frozen_linear_plain(x, weight, bias);
}

Tensor frozen_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  std::optional<Tensor> added;
  if (bias.defined()) added = bias.to(x.scalar_type());
  return at::linear(x, weight.to(x.scalar_type()), added);
}

}  // namespace graft::ops
