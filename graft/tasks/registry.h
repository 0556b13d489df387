// The tasks, each listed once; and the presets that know a data set's columns, labels and metrics.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "graft/base/fields.h"
#include "graft/data/source.h"
#include "graft/tasks/data_config.h"
#include "graft/tasks/task.h"
#include "graft/text/chat_template.h"
#include "graft/text/tokenizer.h"

namespace graft {

/// What a task is made from. Tokenizer and template must outlive the task.
struct TaskSetup {
  Json task;  // the recipe's part, completed
  DataConfig data;
  const Tokenizer& tokenizer;
  const ChatTemplate* chat_template = nullptr;  // the model's; nullptr: none
  int64_t max_positions = 0;                    // of the model; 0: no limit
  const std::vector<Example>* train = nullptr;  // where labels come from that the recipe does not list
  uint64_t seed = 0;
};

struct TaskKind {
  const char* name;
  const char* summary;
  /// Errors: UsageError (a key or value), DataError (data that says nothing).
  std::unique_ptr<Task> (*create)(const TaskSetup& setup);
  std::vector<FieldHelp> (*help)();
  Json train_defaults;  // keys of `train:` whose default is this task's own
};
const std::vector<TaskKind>& task_kinds();
/// The kind behind a task's or preset's name. Errors: UsageError with the nearest names.
const TaskKind& task_kind(const std::string& name);
/// Tasks' and presets' names, in order.
std::vector<std::string> task_names();

/// Fills in what a preset knows and the recipe does not say: task's labels and metrics, data's columns.
void apply_preset(Json& task, Json& data);

enum class Split { train, validation, test };
std::string split_name(Split split);
/// Errors: UsageError.
Split split_of(const std::string& name);
/// How a split's file is to be read.
SourceOptions source_options(const DataConfig& data, const std::string& task_name, Split split);
/// The file of a split; empty where the recipe names none.
std::filesystem::path split_path(const DataConfig& data, Split split);

}  // namespace graft
