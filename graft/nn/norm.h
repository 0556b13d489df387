// Normalisations as modules: their tensors can be trained in place like any other.
#pragma once
#include "graft/nn/module.h"

namespace graft {

class LayerNorm : public Module {
 public:
  LayerNorm(int64_t dim, double eps);
  /// x [T, dim] → [T, dim].
  Tensor forward(const Tensor& x) const;

  std::shared_ptr<Parameter> weight, bias;  // [dim]

 private:
  double eps_;
};

class RmsNorm : public Module {
 public:
  /// `offset` is added to the weight (Gemma: 1).
  RmsNorm(int64_t dim, double eps, double offset = 0);
  /// x […, dim] → the same shape.
  Tensor forward(const Tensor& x) const;

  std::shared_ptr<Parameter> weight;  // [dim]

 private:
  double eps_, offset_;
};

}  // namespace graft
