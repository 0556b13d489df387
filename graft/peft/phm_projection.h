// Compacter's maps: sums of Kronecker products (parameterised hypercomplex multiplication). Source: Mahabadi
// et al. 2021; Zhang et al. 2021.
#pragma once
#include "graft/peft/bottleneck_layer.h"

namespace graft {

/// Either one tensor, or the product of two in its last dimensions.
struct PhmFactor {
  Tensor left, right;  // right undefined: left is all
  Tensor value() const;
};

/// y = x · Σ_i rule_i ⊗ W_i + b.
class PhmProjection : public Projection {
 public:
  /// rule [n, n, n] (or [n, n, 1] · [n, 1, n]), weight [n, in/n, out/n] (or [n, in/n, k] · [n, k, out/n]),
  /// bias [out] or undefined.
  PhmProjection(PhmFactor rule, PhmFactor weight, Tensor bias)
      : rule_(std::move(rule)), weight_(std::move(weight)), bias_(std::move(bias)) {}
  Tensor forward(const Tensor& x) const override;

 private:
  PhmFactor rule_, weight_;
  Tensor bias_;
};

}  // namespace graft
