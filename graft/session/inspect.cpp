#include "graft/session/inspect.h"

#include <algorithm>
#include <map>

#include "graft/base/error.h"
#include "graft/base/json.h"
#include "graft/io/checkpoint.h"
#include "graft/io/safetensors.h"
#include "graft/io/torch_file.h"
#include "graft/models/build.h"
#include "graft/peft/adapterhub_file.h"
#include "graft/peft/several.h"
#include "graft/session/progress.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

int64_t numel(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

/// Digits between dots as *, so that layers fall together.
std::string without_numbers(const std::string& name) {
  std::string out;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(),
                                                     [](unsigned char c) { return std::isdigit(c) != 0; });
    out += (out.empty() ? "" : ".") + (number ? "*" : part);
    begin = end + 1;
  }
  return out;
}

/// Sums over a file's tensors; in the document also every tensor.
void add_tensors(const std::vector<TensorEntry>& entries, RunReport& report) {
  struct Group {
    int64_t count = 0, values = 0;
    std::string shape;
  };
  std::vector<std::pair<std::string, Group>> groups;
  std::map<std::string, int64_t> types;
  Json tensors = Json::object();
  int64_t values = 0;
  for (const TensorEntry& entry : entries) {
    const int64_t count = numel(entry.shape);
    const std::string type = safetensors_dtype(entry.dtype);
    values += count;
    types[type] += count;
    tensors[entry.name] = {{"dtype", type}, {"shape", entry.shape}};
    const std::string name = without_numbers(entry.name) + " " + type + " " + shape_text(entry.shape);
    auto found =
        std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == name; });
    if (found == groups.end()) found = groups.insert(groups.end(), {name, {}});
    ++found->second.count;
    found->second.values += count;
  }
  report.document["parameters"] = values;
  report.document["tensors"] = tensors;
  std::string by_type;
  for (const auto& [type, count] : types)
    by_type += fmt::format("{}{} {}", by_type.empty() ? "" : ", ", count_text(count), type);
  report.text += fmt::format("{} tensors, {} values ({})\n", entries.size(), count_text(values), by_type);
  for (const auto& [name, group] : groups)
    report.text += fmt::format("  {}{}\n", group.count > 1 ? fmt::format("{} × ", group.count) : "", name);
}

RunReport inspect_file(const fs::path& path) {
  const auto file = Safetensors::open(path);
  RunReport report;
  report.document = {{"kind", "safetensors"}, {"path", path.string()}, {"metadata", file.metadata()}};
  report.text = fmt::format("{}: safetensors, {}\n", path.string(),
                            bytes_text(static_cast<int64_t>(fs::file_size(path))));
  add_tensors(file.entries(), report);
  return report;
}

/// AdapterHub's name for what an adapter is, or graft's own where it made it.
Json adapterhub_method(const Json& config) {
  const auto own = config.find("graft");
  if (own != config.end() && own->is_object() && own->contains("name")) return (*own)["name"];
  return config["config"].value("architecture", Json("bottleneck"));
}

void add_adapter(const fs::path& folder, RunReport& report) {
  const Json config = read_json(folder / "adapter_config.json");
  if (!config.is_object()) throw DataError((folder / "adapter_config.json").string(), "not an object");
  const bool adapterhub = is_adapterhub_config(config);
  const std::string method = adapterhub ? adapterhub_method(config).dump() + " (AdapterHub)"
                             : config.contains("peft_type") ? config["peft_type"].dump()
                                                            : config.value("graft_method", Json()).dump();
  report.document = {{"kind", "adapter"}, {"path", folder.string()}, {"config", config}};
  report.text += fmt::format("{}: adapter, {}\n", folder.string(), method);
  for (const auto& [key, value] : config.items()) {
    const bool unset = value.is_null() || (value.is_structured() && value.empty()) || value == Json(false);
    if (!unset && key != "peft_type") report.text += fmt::format("  {}: {}\n", key, value.dump());
  }
  const fs::path weights = adapterhub ? adapterhub_weights(folder) : peft_weights(folder);
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : read_tensor_file(weights))
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), 0, 0});
  add_tensors(entries, report);
}

RunReport inspect_adapter(const fs::path& folder) {
  RunReport report;
  const std::vector<fs::path> parts = adapter_folders(folder);
  if (parts.size() == 1 && parts[0] == folder) {
    add_adapter(folder, report);
    return report;
  }
  Json adapters = Json::array();
  for (const fs::path& part : parts) {
    RunReport one;
    add_adapter(part, one);
    report.text += one.text;
    adapters.push_back(one.document);
  }
  report.document = {{"kind", "adapters"}, {"path", folder.string()}, {"adapters", adapters}};
  return report;
}

/// Linears by the last part of their path, with how many there are: what target_modules may name.
Json linear_targets(Model& model) {
  std::map<std::string, std::pair<int64_t, int64_t>> targets;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* linear = dynamic_cast<const Linear*>(module);
    if (!linear) continue;
    auto& [count, values] = targets[path.substr(path.rfind('.') + 1)];
    ++count;
    values += numel(linear->weight->shape);
  }
  Json out = Json::object();
  for (const auto& [name, numbers] : targets)
    out[name] = {{"count", numbers.first}, {"parameters", numbers.second}};
  return out;
}

void add_network(const Checkpoint& checkpoint, RunReport& report) {
  const LoadOptions options;
  const auto blueprint = Blueprint::of(checkpoint.config, options, checkpoint.folder.string());
  const auto model = blueprint.build(options);
  const ModelInfo& info = model->info();
  const Json targets = linear_targets(*model);
  report.document["head"] = head_name(model->head);
  report.document["sizes"] = {{"hidden_size", info.hidden_size}, {"layers", info.num_layers},
                              {"heads", info.num_heads},         {"kv_heads", info.num_kv_heads},
                              {"head_dim", info.head_dim},       {"vocabulary", info.vocab_size},
                              {"positions", info.max_positions}};
  report.document["target_modules"] = targets;
  report.text += fmt::format(
      "  head {}, {} layers, hidden {}, {} heads ({} for keys) of {}, vocabulary {}, positions {}\n",
      head_name(model->head), info.num_layers, info.hidden_size, info.num_heads, info.num_kv_heads,
      info.head_dim, count_text(info.vocab_size), info.max_positions);
  report.text += "target_modules:\n";
  for (const auto& [name, row] : targets.items()) {
    report.text += fmt::format("  {}: {}, {} parameters\n", name, row["count"].get<int64_t>(),
                               count_text(row["parameters"].get<int64_t>()));
  }
}

RunReport inspect_model(const fs::path& folder) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  RunReport report;
  const std::string type = checkpoint.config.value("model_type", "");
  report.document = {{"kind", "model"}, {"path", folder.string()}, {"model_type", type}};
  report.text = fmt::format("{}: model, {}\n", folder.string(), type);
  add_network(checkpoint, report);
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : checkpoint.tensors)
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), 0, 0});
  add_tensors(entries, report);
  return report;
}

RunReport inspect_run(const fs::path& folder) {
  RunReport report;
  if (is_adapter_folder(folder)) {
    report = inspect_adapter(folder);
  } else if (fs::exists(folder / "config.json")) {
    report = inspect_model(folder);
  }
  const Json recipe = read_yaml(folder / "recipe.yaml");
  report.document["kind"] = "run";
  report.document["path"] = folder.string();
  report.document["recipe"] = recipe;
  std::string head = folder.string() + ": run";
  const fs::path results = folder / "results.json";
  if (fs::exists(results)) {
    const Json document = read_object(results);
    report.document["results"] = document;
    head += fmt::format(", finished at step {}", document.value("steps", int64_t{0}));
    if (document.contains("metrics") && document["metrics"].is_object()) {
      for (const auto& [name, value] : document["metrics"].items())
        head += fmt::format(", {} {}", name, value.dump());
    }
  } else {
    head += ", not finished";
  }
  report.text = head + "\n" + report.text;
  return report;
}

}  // namespace

RunReport inspect(const fs::path& path) {
  RunReport report;
  if (fs::is_regular_file(path)) {
    report = inspect_file(path);
  } else if (!fs::is_directory(path)) {
    throw DataError(path.string(),
                    "nothing there, expected a model, an adapter, a run or a safetensors file");
  } else if (fs::exists(path / "recipe.yaml")) {
    report = inspect_run(path);
  } else if (is_adapter_folder(path)) {
    report = inspect_adapter(path);
  } else if (fs::exists(path / "config.json")) {
    report = inspect_model(path);
  } else {
    throw DataError(path.string(),
                    "no config.json, adapter_config.json or recipe.yaml in it, expected one of them");
  }
  while (report.text.ends_with('\n')) report.text.pop_back();
  return report;
}

}  // namespace graft
