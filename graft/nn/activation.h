// Activation functions by the names that config.json uses.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace graft {

using at::Tensor;

using Activation = Tensor (*)(const Tensor&);

/// gelu, gelu_new, relu, silu … Errors: DataError with the nearest known names.
Activation activation(const std::string& name);
std::vector<std::string> activation_names();

}  // namespace graft
