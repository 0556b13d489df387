#include "graft/nn/activation.h"

#include <ATen/ATen.h>

#include <utility>

#include "graft/base/error.h"

namespace graft {
namespace {

Tensor gelu_exact(const Tensor& x) { return at::gelu(x); }
Tensor gelu_tanh(const Tensor& x) { return at::gelu(x, "tanh"); }
Tensor quick_gelu(const Tensor& x) { return x * at::sigmoid(1.702 * x); }
Tensor relu(const Tensor& x) { return at::relu(x); }
Tensor silu(const Tensor& x) { return at::silu(x); }
Tensor tanh(const Tensor& x) { return at::tanh(x); }
Tensor sigmoid(const Tensor& x) { return at::sigmoid(x); }
Tensor identity(const Tensor& x) { return x; }

const std::vector<std::pair<std::string, Activation>>& table() {
  static const std::vector<std::pair<std::string, Activation>> rows = {
      {"gelu", gelu_exact},
      {"gelu_new", gelu_tanh},
      {"gelu_pytorch_tanh", gelu_tanh},
      {"gelu_fast", gelu_tanh},
      {"relu", relu},
      {"silu", silu},
      {"swish", silu},
      {"tanh", tanh},
      {"sigmoid", sigmoid},
      {"quick_gelu", quick_gelu},
      {"linear", identity},
  };
  return rows;
}

}  // namespace

Activation activation(const std::string& name) {
  for (const auto& [known, function] : table()) {
    if (known == name) return function;
  }
  throw DataError("activation", "{}, expected a known function{}", name,
                  did_you_mean(name, activation_names()));
}

std::vector<std::string> activation_names() {
  std::vector<std::string> names;
  for (const auto& row : table()) names.push_back(row.first);
  return names;
}

}  // namespace graft
