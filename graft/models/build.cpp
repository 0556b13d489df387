#include "graft/models/build.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_set>

#include "graft/base/error.h"
#include "graft/base/random.h"

namespace graft {
namespace {

/// A fresh classifier has this many outputs where nothing says how many (transformers' default).
constexpr int64_t kDefaultLabels = 2;
/// More labels than this in a config are a mistake, and would be allocated.
constexpr int64_t kMostLabels = 1 << 24;

HeadKind head_of(const Family& family, const Json& config, const std::string& where) {
  const auto found = config.find("architectures");
  if (found == config.end() || !found->is_array() || found->empty() || !(*found)[0].is_string()) {
    return HeadKind::none;
  }
  const auto name = (*found)[0].get<std::string>();
  std::vector<std::string> known;
  for (const auto& [architecture, head] : family.architectures) {
    if (architecture == name) return head;
    known.push_back(architecture);
  }
  throw DataError(where, "architecture {} in config.json is not implemented, expected one of {}", name,
                  fmt::join(known, ", "));
}

const std::string& architecture_of(const Family& family, HeadKind head) {
  std::vector<std::string> known;
  for (const auto& [architecture, kind] : family.architectures) {
    if (kind == head) return architecture;
    const std::string name = head_name(kind);
    if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  }
  throw UsageError("head", "{} has no head {}, expected one of {}", family.model_type, head_name(head),
                   fmt::join(known, ", "));
}

bool has_labels(HeadKind head) {
  return head == HeadKind::sequence_classification || head == HeadKind::token_classification;
}

int64_t labels_of(const Json& config, const LoadOptions& options, const std::string& where) {
  int64_t labels = kDefaultLabels;
  if (options.num_labels) {
    labels = *options.num_labels;
  } else if (!options.label_names.empty()) {
    labels = static_cast<int64_t>(options.label_names.size());
  } else if (const auto names = config.find("id2label"); names != config.end() && names->is_object()) {
    labels = static_cast<int64_t>(names->size());
  } else if (const auto count = config.find("num_labels");
             count != config.end() && count->is_number_integer()) {
    labels = count->get<int64_t>();
  }
  if (labels < 1 || labels > kMostLabels)
    throw DataError(where, "{} labels, expected 1 to {}", labels, kMostLabels);
  return labels;
}

/// id2label and label2id as transformers writes them; names that are there for as many labels stay.
void write_labels(Json& config, int64_t labels, const std::vector<std::string>& names) {
  const auto present = config.find("id2label");
  if (names.empty() && present != config.end() && present->is_object() &&
      static_cast<int64_t>(present->size()) == labels) {
    return;
  }
  Json id2label = Json::object(), label2id = Json::object();
  for (int64_t i = 0; i < labels; ++i) {
    const auto index = static_cast<size_t>(i);
    const std::string name = index < names.size() ? names[index] : fmt::format("LABEL_{}", i);
    id2label[std::to_string(i)] = name;
    label2id[name] = i;
  }
  config["id2label"] = id2label;
  config["label2id"] = label2id;
  config.erase("num_labels");
}

/// Which maps are multiplied in 8 bits. Heads that start anew are small, and trained.
void use_int8(Model& model) {
  const std::vector<std::string> heads = model.head_modules();
  const auto in_head = [&](const std::string& path) {
    return std::any_of(heads.begin(), heads.end(),
                       [&](const std::string& name) { return path == name || path.starts_with(name + "."); });
  };
  for (const auto& [path, module] : model.named_modules()) {
    auto* const linear = dynamic_cast<Linear*>(module);
    if (linear != nullptr && !in_head(path))
      linear->use_int8({.exact_gradient = linear == model.output_embedding()});
  }
}

/// Every linear map's weight once.
int64_t linear_bytes(Model& model, at::ScalarType dtype) {
  std::unordered_set<const Parameter*> counted;
  int64_t numbers = 0;
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    if (linear != nullptr && counted.insert(linear->weight.get()).second)
      numbers += linear->in() * linear->out();
  }
  return numbers * static_cast<int64_t>(c10::elementSize(dtype));
}

void use_one_layout(Model& model) {
  for (const auto& [path, module] : model.named_modules()) {
    if (auto* const linear = dynamic_cast<Linear*>(module)) linear->use_one_layout();
  }
}

/// Numbers that a thread draws at least, so that starting it pays.
constexpr int64_t kDrawnByOne = 1024;

/// By how much a stream's normal() moves its position.
uint64_t words_of_a_normal() {
  RandomStream stream(0, "");
  stream.normal();
  return stream.position();
}

}  // namespace

Blueprint Blueprint::of(const Json& config, const LoadOptions& options, const std::string& where) {
  if (!config.is_object()) throw DataError(where, "config.json is no mapping");
  const auto type = config.find("model_type");
  if (type == config.end() || !type->is_string()) {
    throw DataError(where,
                    "config.json has no model_type, expected the family's name, such as bert or llama");
  }
  if (const auto quantization = config.find("quantization_config");
      quantization != config.end() && !quantization->is_null()) {
    throw DataError(where,
                    "quantization_config in config.json is not implemented; use the unquantized checkpoint");
  }
  Blueprint out;
  out.family = &graft::family(type->get<std::string>());
  out.config = config;
  out.head = options.head ? *options.head : head_of(*out.family, config, where);
  out.config["architectures"] = {architecture_of(*out.family, out.head)};
  if (has_labels(out.head)) {
    out.num_labels = labels_of(config, options, where);
    write_labels(out.config, out.num_labels, options.label_names);
    if (options.problem_type) out.config["problem_type"] = *options.problem_type;
  }
  return out;
}

std::unique_ptr<Model> Blueprint::build(const LoadOptions& options) const {
  auto model = family->create(config, head, num_labels);
  model->config = config;
  model->dtype = options.dtype;
  model->int8 = options.int8;
  if (options.int8) use_int8(*model);
  if (linear_bytes(*model, options.dtype) > options.second_layout) use_one_layout(*model);
  return model;
}

void draw(const Model& model, const std::string& path, Parameter& parameter, const LoadOptions& options) {
  const Model::Init init = model.init(path, parameter);
  Tensor values = at::full(parameter.shape, init.value, at::kFloat);
  if (init.deviation > 0) {
    float* const out = values.data_ptr<float>();
    at::parallel_for(0, values.numel(), kDrawnByOne, [&](int64_t begin, int64_t end) {
      RandomStream stream(options.seed, "init/" + path);
      stream.seek(words_of_a_normal() * static_cast<uint64_t>(begin));
      for (int64_t i = begin; i < end; ++i) out[i] = static_cast<float>(init.deviation * stream.normal());
    });
  }
  parameter.base = values.to(options.dtype);
}

std::unique_ptr<Model> new_model(const Json& config, const LoadOptions& options) {
  const Blueprint blueprint = Blueprint::of(config, options, "config.json");
  auto model = blueprint.build(options);
  for (const auto& [path, parameter] : model->named_parameters()) draw(*model, path, *parameter, options);
  Parameter& words = *model->word_embedding().weight;
  if (const int64_t row = model->padding_row(); row >= 0 && row < words.shape[0]) words.base[row].zero_();
  return model;
}

std::string file_name(const Model& model, const std::string& path) {
  const Family& known = family(model.info().model_type);
  std::string key = path;
  if (!known.rename_back) return key;
  for (const auto& [file, here] : known.renames) {
    if (const size_t at = key.find(here); at != std::string::npos) key.replace(at, here.size(), file);
  }
  return key;
}

Tensor in_file_form(const Tensor& value, const Parameter& parameter, at::ScalarType dtype) {
  const Tensor converted = value.detach().to(dtype);
  return parameter.transposed ? converted.t().contiguous() : converted;
}

TensorMap model_tensors(const Model& model, at::ScalarType dtype) {
  TensorMap tensors;
  for (const auto& [path, parameter] : model.named_parameters()) {
    tensors[file_name(model, path)] = in_file_form(parameter->value(), *parameter, dtype);
  }
  return tensors;
}

Json model_config(const Model& model, at::ScalarType dtype) {
  Json config = model.config;
  const char* name = dtype == at::kBFloat16 ? "bfloat16"
                     : dtype == at::kHalf   ? "float16"
                     : dtype == at::kDouble ? "float64"
                                            : "float32";
  const bool older = config.contains("torch_dtype");
  config[older ? "torch_dtype" : "dtype"] = name;
  return config;
}

}  // namespace graft
