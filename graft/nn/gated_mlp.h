// The feed-forward part of most decoders: down(act(gate x) · up x). Source: Shazeer 2020.
#pragma once
#include "graft/nn/activation.h"
#include "graft/nn/linear.h"

namespace graft {

/// Children gate_proj, up_proj, down_proj.
class GatedMlp : public Module {
 public:
  struct Shape {
    int64_t hidden, inner;
    bool bias = false;
  };
  GatedMlp(const Shape& shape, Activation activation);
  /// x [T, hidden] → [T, hidden].
  Tensor forward(const Tensor& x, RandomStream* dropout) const;

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Activation activation_;
};

}  // namespace graft
