// Activation functions by the names that config.json uses.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "graft/ops/activation.h"

namespace graft {

using at::Tensor;

/// act, and act(gate) · up in one pass.
class Activation {
 public:
  using Function = Tensor (*)(const Tensor&);
  Activation() = default;
  /// One that has a fast form.
  explicit Activation(ops::Activation kind) : kind_(kind) {}
  explicit Activation(Function function) : function_(function) {}
  Tensor operator()(const Tensor& x) const;
  /// gate and up of one shape.
  Tensor gated(const Tensor& gate, const Tensor& up) const;

 private:
  std::optional<ops::Activation> kind_;
  Function function_ = nullptr;
};

/// gelu, gelu_new, relu, silu … Errors: DataError with the nearest known names.
Activation activation(const std::string& name);
std::vector<std::string> activation_names();

}  // namespace graft
