// Normalisations as modules: their tensors can be trained in place like any other.
#pragma once
#include "graft/nn/module.h"
#include "graft/ops/norm.h"

namespace graft {

class LayerNorm : public Module {
 public:
  LayerNorm(int64_t dim, double eps);
  /// x [T, dim] → [T, dim].
  Tensor forward(const Tensor& x) const;
  /// x + residual, and its norm, in one pass.
  ops::AddedNorm added(const Tensor& x, const Tensor& residual) const;

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
  /// x + residual [T, dim], and its norm, in one pass.
  ops::AddedNorm added(const Tensor& x, const Tensor& residual) const;

  std::shared_ptr<Parameter> weight;  // [dim]

 private:
  Tensor factor(const Tensor& x) const;
  double eps_, offset_;
};

}  // namespace graft
