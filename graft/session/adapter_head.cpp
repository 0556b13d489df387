#include "graft/session/adapter_head.h"

#include <algorithm>
#include <array>

#include "graft/base/error.h"
#include "graft/base/fields.h"
#include "graft/io/safetensors.h"
#include "graft/peft/lora.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

std::optional<HeadKind> head_of(const Json& config) {
  const std::string type = config.contains("task_type") && config["task_type"].is_string()
                               ? config["task_type"].get<std::string>()
                               : "";
  if (type == "SEQ_CLS") return HeadKind::sequence_classification;
  if (type == "TOKEN_CLS") return HeadKind::token_classification;
  if (type == "QUESTION_ANS") return HeadKind::question_answering;
  if (type == "CAUSAL_LM") return HeadKind::causal_lm;
  if (type == "SEQ_2_SEQ_LM") return HeadKind::seq2seq_lm;
  return {};
}

/// Rows of the saved head's weight; nothing where the file has none.
std::optional<int64_t> saved_labels(const fs::path& weights) {
  const auto file = Safetensors::open(weights);
  for (const TensorEntry& entry : file.entries()) {
    for (const char* ending : {".classifier.weight", ".score.weight", ".classifier.out_proj.weight"}) {
      if (entry.name.ends_with(ending) && entry.shape.size() == 2) return entry.shape[0];
    }
  }
  return {};
}

std::vector<std::string> recipe_labels(const fs::path& recipe) {
  if (!fs::exists(recipe)) return {};
  const Json document = read_yaml(recipe);
  const auto task = document.find("task");
  if (task == document.end() || !task->is_object() || !task->contains("labels")) return {};
  std::vector<std::string> labels;
  read_value((*task)["labels"], labels, recipe.string() + " task.labels");
  return labels;
}

}  // namespace

LoadOptions with_adapter_head(LoadOptions options, const fs::path& adapter) {
  const fs::path config = adapter / "adapter_config.json";
  if (!fs::exists(config)) {
    throw DataError(adapter.string(), "no adapter_config.json in it, expected an adapter's folder");
  }
  const Json document = read_json(config);
  if (!options.head) options.head = head_of(document);
  if (options.layer_replication.empty())
    options.layer_replication = layer_ranges(document.value("layer_replication", Json()));
  const bool classes =
      options.head == HeadKind::sequence_classification || options.head == HeadKind::token_classification;
  if (!classes || options.num_labels) return options;
  options.num_labels = saved_labels(adapter / "adapter_model.safetensors");
  if (!options.num_labels || !options.label_names.empty()) return options;
  std::vector<std::string> labels = recipe_labels(adapter / "recipe.yaml");
  if (static_cast<int64_t>(labels.size()) == *options.num_labels) options.label_names = std::move(labels);
  return options;
}

}  // namespace graft
