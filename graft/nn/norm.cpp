#include "graft/nn/norm.h"

#include <ATen/ATen.h>

#include "graft/ops/norm.h"

namespace graft {

LayerNorm::LayerNorm(int64_t dim, double eps)
    : weight(add("weight", {dim})), bias(add("bias", {dim})), eps_(eps) {}

Tensor LayerNorm::forward(const Tensor& x) const {
  return ops::layer_norm(x, weight->value(), bias->value(), eps_);
}

RmsNorm::RmsNorm(int64_t dim, double eps, double offset)
    : weight(add("weight", {dim})), eps_(eps), offset_(offset) {}

Tensor RmsNorm::forward(const Tensor& x) const {
  const bool narrow = x.scalar_type() != at::kDouble;
  const Tensor factor =
      offset_ == 0 ? weight->value() : weight->value().to(narrow ? at::kFloat : at::kDouble) + offset_;
  if (x.dim() == 2) return ops::rms_norm(x, factor, eps_);
  return ops::rms_norm(x.reshape({-1, x.size(-1)}), factor, eps_).view(x.sizes());
}

}  // namespace graft
