#include "graft/session/recipe.h"

#include <algorithm>
#include <set>

#include "graft/base/error.h"
#include "graft/session/foreign_keys.h"
#include "graft/session/method_help.h"
#include "graft/session/session.h"
#include "graft/session/train_defaults.h"
#include "graft/tasks/registry.h"

namespace graft {
namespace {

void expand(Json& document, const char* key, const char* field) {
  const auto found = document.find(key);
  if (found != document.end() && found->is_string()) *found = Json{{field, *found}};
}

Json one_method(const Json& method) {
  if (method.is_string()) return {{"name", method}};
  if (!method.is_object()) fail_value(method, "method", "a name, a mapping with a name, or a list of such");
  if (!method.contains("name") || !method["name"].is_string()) {
    throw UsageError("method.name", "missing, expected a method's name, for example lora");
  }
  return method;
}

/// One method, or a list of at least two.
Json methods(const Json& given) {
  if (!given.is_array()) return one_method(given);
  if (given.empty()) throw UsageError("method", "an empty list, expected at least one method");
  if (given.size() == 1) return one_method(given[0]);
  Json list = Json::array();
  for (const Json& method : given) list.push_back(one_method(method));
  return list;
}

std::vector<std::string> method_names(const Json& method) {
  std::vector<std::string> names;
  for (const Json& one : method_list(method)) names.push_back(one["name"].get<std::string>());
  return names;
}

/// `key:` without a value leaves the default.
void drop_nulls(Json& node) {
  if (!node.is_object()) return;
  Json kept = Json::object();
  for (auto& [key, value] : node.items()) {
    drop_nulls(value);
    if (!value.is_null()) kept[key] = value;
  }
  node = std::move(kept);
}

/// Makes the mappings that defaults go into; `document` may move its parts only here.
void make_parts(Json& document) {
  for (const char* key : {"model", "task", "data", "train"}) {
    if (!document.contains(key) || document[key].is_null()) document[key] = Json::object();
    if (!document[key].is_object()) fail_value(document[key], key, "a mapping");
  }
}

bool names_scratch(const Json& model) {
  const auto scratch = model.find("from_scratch");
  return scratch != model.end() && scratch->is_object() && scratch->contains("config");
}

void fill_in_defaults(Json& document) {
  make_parts(document);
  // A method's nulls are PEFT's, and mean something.
  for (const char* key : {"model", "task", "data", "train"}) drop_nulls(document[key]);
  Json& task = document["task"];
  if (!task.contains("name")) task["name"] = Recipe{}.task["name"];
  std::string task_name;
  read_value(task["name"], task_name, "task.name");
  apply_preset(task, document["data"]);
  Json& train = document["train"];
  // YAML reads true and false as no text.
  if (train.contains("checkpointing") && train["checkpointing"].is_boolean())
    train["checkpointing"] = train["checkpointing"].get<bool>() ? "true" : "false";
  if (train.contains("memory") && train["memory"].is_number_integer())
    train["memory"] = train["memory"].dump();
  if (train.value("optimizer", Json()) == "lion" && !train.contains("betas")) train["betas"] = {0.9, 0.99};
  const Json defaults = train_defaults(
      task_name,
      document.contains("method") ? method_names(document["method"]) : std::vector<std::string>{"lora"},
      names_scratch(document["model"]));
  for (const auto& [key, value] : defaults.items()) {
    // A count of warm-up steps says more than a share.
    if (key == "warmup_ratio" && train.contains("warmup_steps")) continue;
    if (!train.contains(key)) train[key] = value;
  }
}

/// What a run may change when it goes on.
const std::set<std::string>& free_keys() {
  static const std::set<std::string> keys{"train.threads",   "train.keep",          "train.save_every",
                                          "train.log_every", "train.checkpointing", "train.memory",
                                          "output"};
  return keys;
}

void compare(const Json& now, const Json& before, const std::string& path, std::vector<std::string>& out) {
  if (free_keys().contains(path) || now == before) return;
  if (!now.is_object() || !before.is_object()) {
    out.push_back(fmt::format("{}: {}, was {}", path, now.dump(), before.dump()));
    return;
  }
  std::set<std::string> keys;
  for (const auto& [key, value] : now.items()) keys.insert(key);
  for (const auto& [key, value] : before.items()) keys.insert(key);
  for (const std::string& key : keys) {
    compare(now.value(key, Json()), before.value(key, Json()), path.empty() ? key : path + "." + key, out);
  }
}

}  // namespace

std::vector<Json> method_list(const Json& method) {
  return method.is_array() ? method.get<std::vector<Json>>() : std::vector<Json>{method};
}

std::filesystem::path Recipe::text_folder() const {
  if (!from_scratch()) return model.path;
  if (!model.from_scratch.tokenizer.empty()) return model.from_scratch.tokenizer;
  return std::filesystem::is_directory(model.from_scratch.config) ? model.from_scratch.config
                                                                  : model.from_scratch.config.parent_path();
}

std::vector<std::filesystem::path> Recipe::inputs() const {
  return {model.path, model.from_scratch.config, model.from_scratch.tokenizer,
          data.train, data.validation,           data.test};
}

at::ScalarType Recipe::save_dtype() const {
  if (!model.save_dtype.empty()) return dtype_of(model.save_dtype);
  LoadOptions load;
  set_dtype(load, model.dtype);
  return load.dtype;
}

void expand_names(Json& document) {
  if (!document.is_object()) return;
  expand(document, "model", "path");
  expand(document, "method", "name");
  expand(document, "task", "name");
}

Recipe read_recipe(Json document) {
  if (!document.is_object())
    throw UsageError("recipe", "not a mapping, expected the keys model, method, task, data, train, output");
  if (document.contains("output") && document["output"].is_null()) document.erase("output");
  expand_names(document);
  if (document.contains("method")) document["method"] = methods(document["method"]);
  refuse_foreign_keys(document);
  fill_in_defaults(document);
  auto recipe = read_fields<Recipe>(document, "recipe");
  if (recipe.model.path.empty() && !recipe.from_scratch()) {
    throw UsageError("model.path", "missing, expected a model's folder (or model.from_scratch.config)");
  }
  if (!recipe.model.path.empty() && recipe.from_scratch()) {
    throw UsageError("model", "path and from_scratch are both given, expected one of them");
  }
  return recipe;
}

Json recipe_document(const Recipe& recipe) { return write_fields(recipe); }

std::vector<FieldHelp> recipe_help() {
  std::vector<FieldHelp> rows;
  for (FieldHelp& row : describe_fields<Recipe>()) {
    const bool is_task = row.path == "task", is_method = row.path == "method";
    rows.push_back(std::move(row));
    if (is_method) {
      for (FieldHelp& key : help_on_methods()) rows.push_back(std::move(key));
    }
    if (!is_task) continue;
    for (const TaskKind& kind : task_kinds()) {
      for (FieldHelp& key : kind.help()) {
        if (key.path == "task.name") continue;
        key.help = fmt::format("({}) {}", kind.name, key.help);
        rows.push_back(std::move(key));
      }
    }
  }
  return rows;
}

std::vector<std::string> differences(const Json& now, const Json& before) {
  std::vector<std::string> out;
  compare(now, before, "", out);
  return out;
}

}  // namespace graft
