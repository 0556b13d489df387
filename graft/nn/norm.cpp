#include "graft/nn/norm.h"

#include <ATen/ATen.h>

namespace graft {

LayerNorm::LayerNorm(int64_t dim, double eps)
    : weight(add("weight", {dim})), bias(add("bias", {dim})), eps_(eps) {}

Tensor LayerNorm::forward(const Tensor& x) const {
  return ops::layer_norm(x, weight->value(), bias->value(), eps_);
}

ops::AddedNorm LayerNorm::added(const Tensor& x, const Tensor& residual) const {
  return ops::add_layer_norm(x, residual, weight->value(), bias->value(), eps_);
}

RmsNorm::RmsNorm(int64_t dim, double eps, double offset)
    : weight(add("weight", {dim})), eps_(eps), offset_(offset) {}

Tensor RmsNorm::factor(const Tensor& x) const {
  if (offset_ == 0) return weight->value();
  return weight->value().to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat) + offset_;
}

Tensor RmsNorm::forward(const Tensor& x) const {
  if (x.dim() == 2) return ops::rms_norm(x, factor(x), eps_);
  return ops::rms_norm(x.reshape({-1, x.size(-1)}), factor(x), eps_).view(x.sizes());
}

ops::AddedNorm RmsNorm::added(const Tensor& x, const Tensor& residual) const {
  return ops::add_rms_norm(x, residual, factor(x), eps_);
}

}  // namespace graft
