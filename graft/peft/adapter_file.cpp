// PEFT's adapter folders.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/peft/adapter.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";

const TuningMethod& method_of(const Json& config, const std::string& where) {
  if (config.is_object() && config.contains("graft_method")) {
    std::string name;
    read_value(config["graft_method"], name, where + " graft_method");
    return tuning_method(name);
  }
  if (!config.is_object() || !config.contains("peft_type")) {
    throw DataError(where, "no peft_type, expected an adapter's config");
  }
  std::vector<std::string> known;
  for (const TuningMethod& method : tuning_methods()) {
    if (!method.peft_type) continue;
    if (config["peft_type"] == method.peft_type) return method;
    known.emplace_back(method.peft_type);
  }
  throw DataError(where, "peft_type: {}, expected one of {}", config["peft_type"].dump(),
                  fmt::join(known, ", "));
}

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
bool stands_in(Adapter& adapter, Model& model, const std::string& key, const Tensor& tensor) {
  const std::string prefix = file_key("");
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

/// Fills the adapter's tensors from the file's. → every problem found.
std::vector<std::string> fill(Adapter& adapter, Model& model, const TensorMap& file) {
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
    if (stands_in(adapter, model, key, value)) continue;
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

std::string listed(const std::vector<std::string>& problems) {
  constexpr size_t kShown = 20;
  std::string out;
  for (size_t i = 0; i < problems.size() && i < kShown; ++i) out += (i ? "; " : "") + problems[i];
  if (problems.size() > kShown) out += fmt::format("; and {} more", problems.size() - kShown);
  return out;
}

Adapter created(const TuningMethod& method, const Json& config, Model& model, const std::string& where) {
  try {
    return method.create(config, model, 0);
  } catch (const UsageError& error) {
    throw DataError(where, "{}", error.what());  // the file's mistake, not the caller's
  }
}

}  // namespace

Adapter read_adapter(const std::filesystem::path& folder, Model& model) {
  const std::filesystem::path config_path = folder / kConfigName, weights = folder / kWeightsName;
  if (!std::filesystem::exists(weights) && std::filesystem::exists(folder / "adapter_model.bin")) {
    throw DataError(folder.string(), "adapter_model.bin is a pickle, expected {}; save it again with PEFT",
                    kWeightsName);
  }
  const Json config = read_json(config_path);
  const TuningMethod& method = method_of(config, config_path.string());
  Adapter adapter = created(method, config, model, config_path.string());
  const std::vector<std::string> problems = fill(adapter, model, read_safetensors(weights));
  if (!problems.empty()) {
    throw DataError(weights.string(), "does not fit this {} model: {}", model.info().model_type,
                    listed(problems));
  }
  return adapter;
}

void write_adapter(const std::filesystem::path& folder, const Adapter& adapter, const Model&) {
  const AdapterFile file = adapter_file(adapter);
  write_safetensors(folder / kWeightsName, file.tensors);
  write_file(folder / kConfigName, to_pretty_json(file.config));
}

AdapterFile adapter_file(const Adapter& adapter) {
  AdapterFile file{{}, adapter.config};
  for (const auto& [key, tensor] : adapter.untrained) file.tensors[key] = tensor.detach();
  for (const auto& [key, tensor] : adapter.trained) file.tensors[key] = tensor.detach();
  if (adapter.before_saving) adapter.before_saving(file.tensors, file.config);
  std::map<std::string, Json> sorted;
  for (const auto& [key, value] : file.config.items()) sorted[key] = value;
  file.config = Json::object();
  for (const auto& [key, value] : sorted) file.config[key] = value;
  return file;
}

}  // namespace graft
