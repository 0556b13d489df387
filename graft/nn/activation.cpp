#include "graft/nn/activation.h"

#include <ATen/ATen.h>

#include <utility>

#include "graft/base/error.h"

namespace graft {
namespace {

Tensor quick_gelu(const Tensor& x) { return x * at::sigmoid(1.702 * x); }
Tensor sigmoid(const Tensor& x) { return at::sigmoid(x); }
Tensor identity(const Tensor& x) { return x; }

const std::vector<std::pair<std::string, Activation>>& table() {
  using Kind = ops::Activation;
  static const std::vector<std::pair<std::string, Activation>> rows = {
      {"gelu", Activation(Kind::gelu)},
      {"gelu_new", Activation(Kind::gelu_tanh)},
      {"gelu_pytorch_tanh", Activation(Kind::gelu_tanh)},
      {"gelu_fast", Activation(Kind::gelu_tanh)},
      {"relu", Activation(Kind::relu)},
      {"silu", Activation(Kind::silu)},
      {"swish", Activation(Kind::silu)},
      {"tanh", Activation(Kind::tanh)},
      {"sigmoid", Activation(sigmoid)},
      {"quick_gelu", Activation(quick_gelu)},
      {"linear", Activation(identity)},
  };
  return rows;
}

}  // namespace

Tensor Activation::operator()(const Tensor& x) const {
  return kind_ ? ops::activate(*kind_, x) : function_(x);
}

Tensor Activation::gated(const Tensor& gate, const Tensor& up) const {
  return kind_ ? ops::activate_gated(*kind_, gate, up) : function_(gate) * up;
}

Activation activation(const std::string& name) {
  for (const auto& [known, act] : table()) {
    if (known == name) return act;
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
