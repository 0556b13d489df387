#include "graft/nn/gated_mlp.h"

#include <ATen/ATen.h>

namespace graft {

GatedMlp::GatedMlp(const Shape& shape, Activation activation)
    : gate_proj_(shape.hidden, shape.inner, shape.bias),
      up_proj_(shape.hidden, shape.inner, shape.bias),
      down_proj_(shape.inner, shape.hidden, shape.bias),
      activation_(activation) {
  add("gate_proj", gate_proj_);
  add("up_proj", up_proj_);
  add("down_proj", down_proj_);
}

Tensor GatedMlp::forward(const Tensor& x, RandomStream* dropout) const {
  const std::vector<Tensor> inner = Linear::forward_together({&gate_proj_, &up_proj_}, x, dropout);
  return down_proj_.forward(activation_.gated(inner[0], inner[1]), dropout);
}

}  // namespace graft
