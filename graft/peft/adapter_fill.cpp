#include "graft/peft/adapter_fill.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "graft/peft/builder.h"

namespace graft {
namespace {

struct Filling {
  Adapter& adapter;
  Model& model;
  const std::string& prefix;
};

std::string shape_text(const Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes().vec(), ", "));
}

/// What PEFT ignores on reading: a head's original and its copy under the wrapper's names.
bool is_useless(const std::string& key) {
  return key.find(".original_module.") != std::string::npos ||
         key.find(".modules_to_save.") != std::string::npos;
}

/// A trained tensor under its second name (a tied bias).
bool is_copy(const Adapter& adapter, const std::string& key) {
  const auto kept = adapter.untrained.find(key);
  return kept != adapter.untrained.end() && kept->second.requires_grad();
}

/// A whole base tensor that is in the file but not trained (an embedding that was saved along): it stands in.
bool stands_in(Filling& filling, const std::string& key, const Tensor& tensor) {
  auto& [adapter, model, prefix] = filling;
  if (!key.starts_with(prefix)) return false;
  std::string path = key.substr(prefix.size());
  if (const size_t wrapped = path.find(".base_layer."); wrapped != std::string::npos) path.erase(wrapped, 11);
  for (const auto& [name, parameter] : model.named_parameters(true)) {
    if (name != path) continue;
    const Tensor value = parameter->transposed ? tensor.t() : tensor;
    if (value.sizes().vec() != parameter->shape) return false;
    if (!value.to(parameter->base.scalar_type()).equal(parameter->base)) {
      adapter.stand_ins[name] = widened(value).clone();
      adapter.untrained[key] = tensor.clone();
    }
    return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> fill_adapter(Adapter& adapter, Model& model, const TensorMap& file,
                                      const std::string& prefix) {
  Filling filling{adapter, model, prefix};
  std::vector<std::string> problems;
  const at::NoGradGuard no_grad;
  const auto copy = [&](const std::string& key, Tensor& target, const Tensor& value) {
    if (target.sizes() != value.sizes()) {
      problems.push_back(fmt::format("{} is {}, expected {}", key, shape_text(value), shape_text(target)));
    } else {
      target.copy_(value);
    }
  };
  for (auto& [key, tensor] : adapter.trained) {
    const auto found = file.find(key);
    if (found == file.end()) {
      problems.push_back(key + " is missing");
    } else {
      copy(key, tensor, found->second);
    }
  }
  for (const auto& [key, value] : file) {
    if (adapter.trained.count(key) || is_useless(key) || is_copy(adapter, key)) continue;
    if (stands_in(filling, key, value)) continue;
    const auto kept = adapter.untrained.find(key);
    if (kept != adapter.untrained.end()) {
      Tensor own = kept->second;
      copy(key, own, value);
    } else {
      problems.push_back(key + " belongs to nothing in this model");
    }
  }
  return problems;
}

std::string listed_problems(const std::vector<std::string>& problems) {
  constexpr size_t kShown = 20;
  std::string out;
  for (size_t i = 0; i < problems.size() && i < kShown; ++i) out += (i ? "; " : "") + problems[i];
  if (problems.size() > kShown) out += fmt::format("; and {} more", problems.size() - kShown);
  return out;
}

}  // namespace graft
