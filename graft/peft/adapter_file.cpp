// Adapters' folders: PEFT's, AdapterHub's.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/io/torch_file.h"
#include "graft/peft/adapter.h"
#include "graft/peft/adapter_fill.h"
#include "graft/peft/adapterhub_file.h"
#include "graft/peft/bottleneck.h"
#include "graft/peft/builder.h"
#include "graft/peft/several.h"

namespace graft {
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kPickleName = "adapter_model.bin";  // as PEFT wrote before safetensors

/// The method that graft made an AdapterHub file with; any bottleneck adapter for other software's.
const TuningMethod& adapterhub_method(const Json& config, const std::string& where) {
  const auto own = config.find("graft");
  if (own == config.end()) return kBottleneck;
  std::string name;
  if (!own->is_object() || !own->contains("name"))
    throw DataError(where, "graft: no name, expected a method's");
  read_value((*own)["name"], name, where + " graft.name");
  const TuningMethod& method = tuning_method(name);
  if (method.files != AdapterFiles::adapterhub)
    throw DataError(where, "graft.name: {}, expected a bottleneck method", name);
  return method;
}

const TuningMethod& method_of(const Json& config, const std::string& where) {
  if (config.is_object() && config.contains("graft_method")) {
    std::string name;
    read_value(config["graft_method"], name, where + " graft_method");
    return tuning_method(name);
  }
  if (is_adapterhub_config(config)) return adapterhub_method(config, where);
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

Adapter read_one(const std::filesystem::path& folder, Model& model) {
  const std::filesystem::path config_path = folder / kConfigName;
  const Json config = read_json(config_path);
  try {
    const TuningMethod& method = method_of(config, config_path.string());
    Adapter adapter = method.create(config, model, 0);
    const bool peft = method.files == AdapterFiles::peft;
    const TensorMap tensors =
        peft ? read_tensor_file(peft_weights(folder)) : read_adapterhub_tensors(folder, config, model);
    const std::vector<std::string> problems = fill_adapter(adapter, model, tensors, peft ? file_key("") : "");
    if (!problems.empty()) {
      throw DataError(folder.string(), "does not fit this {} model: {}", model.info().model_type,
                      listed_problems(problems));
    }
    return adapter;
  } catch (const UsageError& error) {
    throw DataError(config_path.string(), "{}", error.what());  // the file's mistake, not the caller's
  }
}

}  // namespace

Adapter read_adapter(const std::filesystem::path& folder, Model& model) {
  if (!std::filesystem::exists(folder / kAdapterList)) return read_one(folder, model);
  std::vector<Adapter> parts;
  std::vector<std::string> names;
  for (const std::filesystem::path& part : adapter_folders(folder)) {
    parts.push_back(read_one(part, model));
    names.push_back(part.filename().string());
  }
  try {
    return several(std::move(parts), std::move(names));
  } catch (const UsageError& error) {
    throw DataError(folder.string(), "{}", error.what());
  }
}

void write_adapter(const std::filesystem::path& folder, const Adapter& adapter, const Model& model) {
  if (!adapter.parts.empty()) {
    for (size_t i = 0; i < adapter.parts.size(); ++i) {
      std::filesystem::create_directories(folder / adapter.part_names[i]);
      write_adapter(folder / adapter.part_names[i], adapter.parts[i], model);
    }
    write_file(folder / kAdapterList, Json(adapter.part_names).dump(2));
    return;
  }
  const AdapterFile file = adapter_file(adapter);
  if (adapter.method->files == AdapterFiles::adapterhub) {
    write_adapterhub(folder, file, model);
    return;
  }
  write_safetensors(folder / kWeightsName, file.tensors);
  write_file(folder / kConfigName, to_pretty_json(file.config));
}

std::filesystem::path peft_weights(const std::filesystem::path& folder) {
  const bool pickled =
      !std::filesystem::exists(folder / kWeightsName) && std::filesystem::exists(folder / kPickleName);
  return folder / (pickled ? kPickleName : kWeightsName);
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
