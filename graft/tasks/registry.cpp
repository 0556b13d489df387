#include "graft/tasks/registry.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/tasks/causal_lm.h"
#include "graft/tasks/glue.h"
#include "graft/tasks/instruction.h"
#include "graft/tasks/masked_lm.h"
#include "graft/tasks/prefix_lm.h"
#include "graft/tasks/prompt_classification.h"
#include "graft/tasks/seq2seq.h"
#include "graft/tasks/sequence_classification.h"
#include "graft/tasks/span_corruption.h"
#include "graft/tasks/token_classification.h"

namespace graft {
namespace {

const TaskPreset* preset_of(const std::string& name) {
  const auto& presets = glue_presets();
  const auto found =
      std::find_if(presets.begin(), presets.end(), [&](const auto& p) { return p.name == name; });
  return found == presets.end() ? nullptr : &*found;
}

void fill_in(Json& into, const Json& from) {
  for (const auto& [key, value] : from.items()) {
    if (!into.contains(key)) into[key] = value;
  }
}

}  // namespace

const std::vector<TaskKind>& task_kinds() {
  // Tasks are listed here, once.
  static const std::vector<TaskKind> table{
      kSequenceClassification,
      kTokenClassification,
      kPromptClassification,
      kCausalLm,
      kInstruction,
      kMaskedLm,
      kSpanCorruption,
      kPrefixLm,
      kSeq2Seq,
  };
  return table;
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const TaskKind& kind : task_kinds()) names.push_back(kind.name);
  for (const TaskPreset& preset : glue_presets()) names.push_back(preset.name);
  return names;
}

const TaskKind& task_kind(const std::string& name) {
  const TaskPreset* preset = preset_of(name);
  for (const TaskKind& kind : task_kinds()) {
    if (kind.name == (preset ? preset->kind : name)) return kind;
  }
  std::string list;
  for (const std::string& one : task_names()) list += (list.empty() ? "" : ", ") + one;
  throw UsageError("task.name", "{}, expected one of {}{}", name, list, did_you_mean(name, task_names()));
}

void apply_preset(Json& task, Json& data) {
  const TaskPreset* preset = preset_of(task.value("name", ""));
  if (!preset) return;
  fill_in(task, preset->task);
  fill_in(data, preset->data);
}

std::string split_name(Split split) {
  return split == Split::train ? "train" : split == Split::validation ? "validation" : "test";
}

Split split_of(const std::string& name) {
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    if (split_name(split) == name) return split;
  }
  throw UsageError("split", "{}, expected train, validation or test{}", name,
                   did_you_mean(name, {"train", "validation", "test"}));
}

SourceOptions source_options(const DataConfig& data, const std::string& task_name, Split split) {
  SourceOptions options{
      .format = data.format, .header = data.header, .columns = data.names, .limit = data.limit};
  const TaskPreset* preset = preset_of(task_name);
  // The test files of a preset have a header even where the others have none.
  if (preset && split == Split::test && preset->test_has_header) {
    options.header = true;
    options.columns.clear();
  }
  return options;
}

std::filesystem::path split_path(const DataConfig& data, Split split) {
  return split == Split::train ? data.train : split == Split::validation ? data.validation : data.test;
}

}  // namespace graft
