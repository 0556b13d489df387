#include "graft/nn/norm.h"

#include <ATen/ATen.h>

#include "graft/ops/norm.h"

namespace graft {

LayerNorm::LayerNorm(int64_t dim, double eps)
    : weight(add("weight", {dim})), bias(add("bias", {dim})), eps_(eps) {}

Tensor LayerNorm::forward(const Tensor& x) const {
  return ops::layer_norm(x, weight->value(), bias->value(), eps_);
}

RmsNorm::RmsNorm(int64_t dim, double eps) : weight(add("weight", {dim})), eps_(eps) {}

Tensor RmsNorm::forward(const Tensor& x) const {
  if (x.dim() == 2) return ops::rms_norm(x, weight->value(), eps_);
  return ops::rms_norm(x.reshape({-1, x.size(-1)}), weight->value(), eps_).view(x.sizes());
}

}  // namespace graft
