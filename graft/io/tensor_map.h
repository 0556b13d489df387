// Named tensors in the order of their names: what files hold, and what models and adapters are read from.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace graft {

using at::Tensor;
using TensorMap = std::map<std::string, Tensor>;

}  // namespace graft
