#include "graft/session/foreign_keys.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "graft/base/error.h"
#include "graft/peft/adapter.h"
#include "graft/peft/method_config.h"
#include "graft/session/recipe.h"
#include "graft/tasks/registry.h"

namespace graft {
namespace {

/// As transformers, PEFT, LLaMA-Factory, axolotl and torchtune say it.
const std::map<std::string, std::string>& own_names() {
  static const std::map<std::string, std::string> names{{"adapter", "method"},
                                                        {"alpha", "method.lora_alpha"},
                                                        {"base_model", "model.path"},
                                                        {"bf16", "model.dtype"},
                                                        {"cutoff_len", "task.max_length"},
                                                        {"dataset", "data.train"},
                                                        {"dropout", "method.lora_dropout"},
                                                        {"early_stopping_patience", "train.early_stopping"},
                                                        {"eval_file", "data.validation"},
                                                        {"eval_steps", "train.evaluate_every"},
                                                        {"finetuning_type", "method"},
                                                        {"gradient_checkpointing", "train.checkpointing"},
                                                        {"logging_steps", "train.log_every"},
                                                        {"lora_r", "method.r"},
                                                        {"lora_rank", "method.r"},
                                                        {"lora_target", "method.target_modules"},
                                                        {"lora_target_modules", "method.target_modules"},
                                                        {"lr", "train.learning_rate"},
                                                        {"lr_scheduler", "train.schedule"},
                                                        {"lr_scheduler_type", "train.schedule"},
                                                        {"max_length", "task.max_length"},
                                                        {"max_seq_len", "task.max_length"},
                                                        {"max_seq_length", "task.max_length"},
                                                        {"max_source_length", "task.max_length"},
                                                        {"max_steps", "train.steps"},
                                                        {"metric_for_best_model", "train.metric"},
                                                        {"micro_batch_size", "train.batch_size"},
                                                        {"model_name", "model.path"},
                                                        {"model_name_or_path", "model.path"},
                                                        {"num_epochs", "train.epochs"},
                                                        {"num_train_epochs", "train.epochs"},
                                                        {"optim", "train.optimizer"},
                                                        {"output_dir", "output"},
                                                        {"peft_type", "method"},
                                                        {"per_device_train_batch_size", "train.batch_size"},
                                                        {"per_gpu_train_batch_size", "train.batch_size"},
                                                        {"pure_bf16", "model.dtype"},
                                                        {"rank", "method.r"},
                                                        {"save_steps", "train.save_every"},
                                                        {"save_total_limit", "train.keep"},
                                                        {"sequence_len", "task.max_length"},
                                                        {"test_file", "data.test"},
                                                        {"torch_dtype", "model.dtype"},
                                                        {"train_batch_size", "train.batch_size"},
                                                        {"train_file", "data.train"},
                                                        {"validation_file", "data.validation"}};
  return names;
}

using Names = std::set<std::string>;

/// "train.seed" within "train" → "seed"; nothing for what lies elsewhere or deeper.
std::optional<std::string> key_within(const std::string& path, const std::string& part) {
  const std::string head = part.empty() ? "" : part + ".";
  if (!path.starts_with(head)) return {};
  const std::string key = path.substr(head.size());
  return key.find('.') == key.npos ? std::optional(key) : std::nullopt;
}

Names keys_within(const std::vector<FieldHelp>& rows, const std::string& part) {
  Names names;
  for (const FieldHelp& row : rows) {
    if (const auto key = key_within(row.path, part)) names.insert(*key);
  }
  return names;
}

/// A method's or task's keys; none where nothing has that name, which has an error of its own.
Names keys_of_named(const std::string& part, const std::string& name) {
  Names names;
  try {
    names = keys_within(part == "task" ? task_kind(name).help() : tuning_method(name).help(), part);
  } catch (const UsageError&) {
    return {};
  }
  names.insert("name");
  return names;
}

class ForeignKeys {
 public:
  explicit ForeignKeys(const Json& document) : document_(document) {
    const std::vector<FieldHelp> rows = describe_fields<Recipe>();
    for (const char* part : {"", "train", "model", "data"}) known_[part] = keys_within(rows, part);
    known_["task"] = keys_of_named("task", name_of("task", Recipe{}.task));
    known_["method"] = keys_of_named("method", name_of("method", Recipe{}.method));
  }

  void refuse() const {
    refuse_in("", document_, known_.at(""));
    for (const char* part : {"train", "model", "data", "task"}) {
      if (document_.contains(part)) refuse_in(part, document_[part], known_.at(part));
    }
    if (!document_.contains("method")) return;
    for (const Json& method : method_list(document_["method"]))
      refuse_in("method", method, keys_of_named("method", method.value("name", "")));
  }

 private:
  std::string name_of(const char* part, const Json& otherwise) const {
    Json given = document_.value(part, otherwise);
    if (given.is_array() && !given.empty()) given = given[0];
    const Json name = given.is_object() ? given.value("name", otherwise["name"]) : Json();
    return name.is_string() ? name.get<std::string>() : "";
  }

  void refuse_in(const std::string& part, const Json& given, const Names& known) const {
    if (!given.is_object() || known.empty()) return;
    for (const auto& [key, value] : given.items()) {
      if (known.contains(key) || (part == "method" && is_file_key(key))) continue;
      const auto own = own_name(key, part, known);
      if (!own) continue;
      const bool of_recipe = part != "task" && part != "method";
      const std::string where = part.empty() ? key : part + "." + key;
      throw UsageError(of_recipe ? "recipe." + where : where, "unknown key; did you mean {}?", *own);
    }
  }

  /// Within the part itself its plain name.
  std::optional<std::string> own_name(const std::string& key, const std::string& part,
                                      const Names& known) const {
    if (const auto found = own_names().find(key); found != own_names().end()) {
      const auto inside = key_within(found->second, part);
      if (inside && known.contains(*inside)) return inside;
      if (is_known(found->second)) return found->second;
    }
    // Too plain to guess by.
    if (key == "name" || key == "path") return {};
    for (const char* other : {"train", "model", "data", "task", "method"}) {
      if (known_.at(other).contains(key)) return fmt::format("{}.{}", other, key);
    }
    return {};
  }

  bool is_known(const std::string& path) const {
    const size_t dot = path.find('.');
    if (dot == path.npos) return known_.at("").contains(path);
    return known_.at(path.substr(0, dot)).contains(path.substr(dot + 1));
  }

  const Json& document_;
  std::map<std::string, Names> known_;  // by part
};

}  // namespace

void refuse_foreign_keys(const Json& document) { ForeignKeys(document).refuse(); }

}  // namespace graft
