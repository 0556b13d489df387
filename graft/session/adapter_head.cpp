#include "graft/session/adapter_head.h"

#include <algorithm>
#include <array>

#include "graft/base/error.h"
#include "graft/base/fields.h"
#include "graft/base/json.h"
#include "graft/io/torch_file.h"
#include "graft/peft/adapterhub_file.h"
#include "graft/peft/lora.h"
#include "graft/peft/several.h"

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
  for (const auto& [name, tensor] : read_tensor_file(weights)) {
    for (const char* ending : {".classifier.weight", ".score.weight", ".classifier.out_proj.weight"}) {
      if (name.ends_with(ending) && tensor.dim() == 2) return tensor.size(0);
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

/// What AdapterHub's head_config.json says.
LoadOptions with_adapterhub_head(LoadOptions options, const fs::path& folder) {
  const auto said = adapterhub_head(folder);
  if (!said) return options;
  if (!options.head) options.head = said->head;
  const bool classes =
      options.head == HeadKind::sequence_classification || options.head == HeadKind::token_classification;
  if (!classes || options.num_labels || said->num_labels <= 0) return options;
  options.num_labels = said->num_labels;
  if (options.label_names.empty()) options.label_names = said->labels;
  return options;
}

LoadOptions with_peft_head(LoadOptions options, const fs::path& folder, const Json& config) {
  if (!options.head) options.head = head_of(config);
  if (options.layer_replication.empty())
    options.layer_replication = layer_ranges(config.value("layer_replication", Json()));
  const bool classes =
      options.head == HeadKind::sequence_classification || options.head == HeadKind::token_classification;
  if (!classes || options.num_labels) return options;
  options.num_labels = saved_labels(peft_weights(folder));
  return options;
}

}  // namespace

LoadOptions with_adapter_head(LoadOptions options, const fs::path& adapter) {
  if (!is_adapter_folder(adapter)) {
    throw DataError(adapter.string(), "no adapter_config.json in it, expected an adapter's folder");
  }
  for (const fs::path& folder : adapter_folders(adapter)) {
    const Json config = read_object(folder / "adapter_config.json");
    options = is_adapterhub_config(config) ? with_adapterhub_head(std::move(options), folder)
                                           : with_peft_head(std::move(options), folder, config);
  }
  if (!options.num_labels || !options.label_names.empty()) return options;
  std::vector<std::string> labels = recipe_labels(adapter / "recipe.yaml");
  if (static_cast<int64_t>(labels.size()) == *options.num_labels) options.label_names = std::move(labels);
  return options;
}

}  // namespace graft
