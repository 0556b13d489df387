#include "graft/peft/adapterhub_file.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/fields.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/io/torch_file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVersion = "adapters.1.3.0";
/// In front of T5's own paths where AdapterHub's class holds the network.
constexpr const char* kFlexible = "transformer.";
constexpr const char* kSharedBlock = "albert_layers.0.attention";

std::string model_class(const Model& model) {
  for (const auto& [name, head] : family(model.info().model_type).architectures) {
    if (head == model.head) return name;
  }
  return "";
}

/// ALBERT's attention keeps its adapters in a module of their own.
std::string file_path(const std::string& sublayer) {
  return adapterhub_swaps(sublayer) ? sublayer + ".attention_adapters" : sublayer;
}

std::string network_prefix(const Model& model) {
  return model.head == HeadKind::none ? "" : family(model.info().model_type).prefix;
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

/// Keys as version 1 of the library wrote them.
void rename_old(std::string& key) {
  for (const char* old : {"attention_text_task_adapters", "attention_text_lang_adapters",
                          "layer_text_task_adapters", "layer_text_lang_adapters"})
    replace(key, old, "adapters");
}

/// Finds the model's sublayer that a key of the file is about.
class KeyFinder {
 public:
  KeyFinder(Model& model, std::string name) : model_(model), name_(std::move(name)) {}

  std::string found(std::string key) const {
    rename_old(key);
    const std::string shared = "shared_parameters." + name_ + ".";
    if (const size_t at = key.find(shared); at != std::string::npos)
      return adapterhub_shared_key(model_, name_) + key.substr(at + shared.size());
    const std::string adapters = ".adapters." + name_ + ".";
    const size_t at = key.find(adapters);
    if (at == std::string::npos) return key;
    const std::string rest = key.substr(at + adapters.size());
    const std::string prefix = network_prefix(model_);
    std::string path = key.substr(0, at);
    if (path.ends_with(std::string(kSharedBlock) + ".attention_adapters")) path.resize(path.rfind('.'));
    for (const std::string& candidate :
         {path, prefix + path, without(path, prefix), without(path, kFlexible)}) {
      if (dynamic_cast<Sublayer*>(model_.find(candidate))) return adapterhub_key(candidate, name_) + rest;
    }
    return key;
  }

 private:
  static std::string without(const std::string& path, const std::string& prefix) {
    return path.starts_with(prefix) ? path.substr(prefix.size()) : path;
  }

  Model& model_;
  std::string name_;
};

Json read_head_config(const fs::path& folder) {
  const fs::path path = folder / "head_config.json";
  if (!fs::exists(path)) return nullptr;
  Json config = read_json(path);
  if (!config.is_object()) throw DataError(path.string(), "not an object, expected a head's config");
  return config;
}

fs::path weights_of(const fs::path& folder, const char* safe, const char* pickle) {
  if (fs::exists(folder / safe)) return folder / safe;
  if (fs::exists(folder / pickle)) return folder / pickle;
  return {};
}

/// Keys of a flexible head that decide what it computes.
struct FlexibleHead {
  std::string head_type, activation_function;
  int64_t layers = 0;
  bool use_pooler = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("head_type", self.head_type, "classification, tagging …");
    visit("activation_function", self.activation_function, "between its layers");
    visit("layers", self.layers, "how many");
    visit("use_pooler", self.use_pooler, "reads the model's pooler");
  }
};

FlexibleHead flexible_head(const Json& config) {
  Json unknown;
  return read_known_fields<FlexibleHead>(config, "head_config.json config", unknown);
}

std::string text_of(const Json& document, const char* key) {
  const auto found = document.find(key);
  return found != document.end() && found->is_string() ? found->get<std::string>() : "";
}

/// A flexible head's layers, where the model's own head computes the same: position in the file → module
/// here.
std::vector<std::pair<std::string, std::string>> head_layers(const Json& config, const Model& model) {
  const FlexibleHead head = flexible_head(config);
  const std::string type = model.info().model_type, kind = head.head_type;
  const int64_t layers = head.layers;
  if (kind == "tagging" && layers == 1 && model.head == HeadKind::token_classification)
    return {{"1", "classifier"}};
  const bool tanh = head.activation_function == "tanh" && !head.use_pooler;
  if (kind == "classification" && layers == 2 && tanh && model.head == HeadKind::sequence_classification) {
    if (type == "bert") return {{"1", "bert.pooler.dense"}, {"4", "classifier"}};
    if (type == "albert") return {{"1", "albert.pooler"}, {"4", "classifier"}};
    if (type == "roberta" || type == "xlm-roberta")
      return {{"1", "classifier.dense"}, {"4", "classifier.out_proj"}};
  }
  throw DataError(
      "head_config.json",
      "a {} head of {} layers, which {} has not here; expected a 2-layer tanh classification head on "
      "BERT, ALBERT or RoBERTa, a 1-layer tagging head, or the head of transformers' own class",
      kind.empty() ? "flexible" : kind, layers, type);
}

void add_head(const fs::path& folder, const Model& model, TensorMap& tensors) {
  const fs::path path = weights_of(folder, "model_head.safetensors", "pytorch_model_head.bin");
  if (path.empty() || model.head == HeadKind::none) return;
  const Json head = read_head_config(folder);
  const bool flexible = head.is_object() && head.contains("config") && head["config"].is_object();
  if (!flexible) {
    for (const auto& [key, tensor] : read_tensor_file(path)) tensors[key] = tensor;
    return;
  }
  const auto layers = head_layers(head["config"], model);
  for (const auto& [key, tensor] : read_tensor_file(path)) {
    const size_t end = key.rfind('.'), begin = end == std::string::npos ? end : key.rfind('.', end - 1);
    if (begin == std::string::npos)
      throw DataError(path.string(), "{}, expected heads.NAME.LAYER.weight", key);
    const std::string position = key.substr(begin + 1, end - begin - 1);
    const auto layer =
        std::find_if(layers.begin(), layers.end(), [&](const auto& row) { return row.first == position; });
    if (layer == layers.end()) throw DataError(path.string(), "{} is no layer of this head", key);
    tensors[layer->second + key.substr(end)] = tensor;
  }
}

bool is_head_tensor(const std::string& key, const Model& model) {
  const auto heads = model.head_modules();
  return std::any_of(heads.begin(), heads.end(),
                     [&](const std::string& head) { return key.starts_with(head + "."); });
}

Json head_document(const Model& model) {
  Json document = {{"config", nullptr},
                   {"hidden_size", model.info().hidden_size},
                   {"model_class", model_class(model)},
                   {"model_name", model.name_or_path},
                   {"model_type", model.info().model_type},
                   {"name", nullptr},
                   {"version", kVersion}};
  if (model.config.contains("label2id")) document["label2id"] = model.config["label2id"];
  if (model.num_labels > 0) document["num_labels"] = model.num_labels;
  return document;
}

Json sorted(const Json& document) {
  if (!document.is_object()) return document;
  std::map<std::string, Json> rows;
  for (const auto& [key, value] : document.items()) rows[key] = sorted(value);
  Json out = Json::object();
  for (const auto& [key, value] : rows) out[key] = value;
  return out;
}

std::optional<HeadKind> head_of(const Json& document) {
  const Json config = document.value("config", Json());
  if (config.is_object()) {
    const std::string type = text_of(config, "head_type");
    if (type == "classification") return HeadKind::sequence_classification;
    if (type == "tagging") return HeadKind::token_classification;
    return {};
  }
  const std::string name = text_of(document, "model_class");
  for (const Family& one : families()) {
    for (const auto& [architecture, head] : one.architectures) {
      if (architecture == name) return head;
    }
  }
  return {};
}

}  // namespace

bool is_adapterhub_config(const Json& config) {
  return config.is_object() && !config.contains("peft_type") && config.contains("config") &&
         config["config"].is_object();
}

std::string adapterhub_key(const std::string& sublayer, const std::string& name) {
  return file_path(sublayer) + ".adapters." + name + ".";
}

bool adapterhub_swaps(const std::string& sublayer) { return sublayer.ends_with(kSharedBlock); }

std::string adapterhub_shared_key(const Model& model, const std::string& name) {
  return network_prefix(model) + "shared_parameters." + name + ".";
}

Json adapterhub_document(const Json& config, const Json& own, const Model& model) {
  return sorted({{"config", config},
                 {"graft", own},
                 {"hidden_size", model.info().hidden_size},
                 {"model_class", model_class(model)},
                 {"model_name", model.name_or_path},
                 {"model_type", model.info().model_type},
                 {"name", text_of(own, "adapter_name")},
                 {"version", kVersion}});
}

fs::path adapterhub_weights(const fs::path& folder) {
  const fs::path path = weights_of(folder, "adapter.safetensors", "pytorch_adapter.bin");
  if (path.empty())
    throw DataError(folder.string(),
                    "no adapter.safetensors or pytorch_adapter.bin in it, expected an adapter's weights");
  return path;
}

TensorMap read_adapterhub_tensors(const fs::path& folder, const Json& config, Model& model) {
  std::string name;
  read_value(config.value("name", Json("default")), name,
             (folder / "adapter_config.json").string() + " name");
  const KeyFinder finder(model, name);
  TensorMap tensors;
  for (const auto& [key, tensor] : read_tensor_file(adapterhub_weights(folder)))
    tensors[finder.found(key)] = tensor;
  add_head(folder, model, tensors);
  return tensors;
}

void write_adapterhub(const fs::path& folder, const AdapterFile& file, const Model& model) {
  TensorMap adapter, head;
  for (const auto& [key, tensor] : file.tensors) (is_head_tensor(key, model) ? head : adapter)[key] = tensor;
  write_safetensors(folder / "adapter.safetensors", adapter);
  if (!head.empty()) {
    write_safetensors(folder / "model_head.safetensors", head);
    write_file(folder / "head_config.json", to_pretty_json(sorted(head_document(model))));
  }
  write_file(folder / "adapter_config.json", to_pretty_json(sorted(file.config)));
}

std::optional<AdapterHubHead> adapterhub_head(const fs::path& folder) {
  const Json document = read_head_config(folder);
  if (!document.is_object()) return {};
  AdapterHubHead out;
  out.head = head_of(document);
  const Json config = document.value("config", Json());
  const Json& source = config.is_object() ? config : document;
  const std::string where = (folder / "head_config.json").string();
  if (const auto labels = source.find("num_labels"); labels != source.end() && !labels->is_null())
    read_value(*labels, out.num_labels, where + " num_labels");
  const auto ids = source.find("label2id");
  if (ids == source.end() || !ids->is_object()) return out;
  if (out.num_labels == 0) out.num_labels = static_cast<int64_t>(ids->size());
  if (out.num_labels != static_cast<int64_t>(ids->size())) return out;
  out.labels.resize(ids->size());
  for (const auto& [label, id] : ids->items()) {
    int64_t index = 0;
    read_value(id, index, where + " label2id");
    if (index < 0 || index >= out.num_labels)
      throw DataError(where, "label2id: {} of {}, expected 0 to {}", index, label, out.num_labels - 1);
    out.labels[static_cast<size_t>(index)] = label;
  }
  return out;
}

}  // namespace graft
