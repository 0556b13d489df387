#include "graft/peft/method_config.h"

#include <algorithm>
#include <set>

#include "graft/base/error.h"

namespace graft {
namespace {

bool is_unset(const Json& value) {
  return value.is_null() || value == Json(false) ||
         ((value.is_object() || value.is_array()) && value.empty());
}

/// "BertModel" → "bert": the package of transformers that holds a model type's classes.
std::string package_of(std::string model_type) {
  std::replace(model_type.begin(), model_type.end(), '-', '_');
  return model_type;
}

Json auto_mapping_of(const Model& model) {
  const auto architectures = model.config.find("architectures");
  if (architectures == model.config.end() || !architectures->is_array() || architectures->empty())
    return nullptr;
  const std::string package = package_of(model.info().model_type);
  return {{"base_model_class", (*architectures)[0]},
          {"parent_library", fmt::format("transformers.models.{0}.modeling_{0}", package)}};
}

}  // namespace

Check<Json> only_unset() {
  return {[](const Check<Json>&, const Json& value) { return is_unset(value); },
          {},
          {},
          {},
          "no value: this setting is not implemented"};
}

Check<Json> only_values(std::vector<Json> values) {
  std::string expected = "one of";
  for (const Json& value : values) expected += " " + value.dump();
  return {[](const Check<Json>& check, const Json& value) {
            return std::find(check.choices.begin(), check.choices.end(), value) != check.choices.end();
          },
          {},
          {},
          std::move(values),
          std::move(expected)};
}

bool is_file_key(const std::string& key) {
  static const std::set<std::string> keys{
      "peft_type",      "graft_method", "auto_mapping",           "revision",
      "inference_mode", "peft_version", "base_model_name_or_path"};
  return keys.contains(key);
}

std::vector<FieldHelp> without_file_keys(std::vector<FieldHelp> rows) {
  const std::string part = "method.";
  std::erase_if(rows, [&](const FieldHelp& row) { return is_file_key(row.path.substr(part.size())); });
  return rows;
}

bool is_file_config(const Json& config) {
  return config.contains("peft_type") || config.contains("graft_method");
}

const char* task_type_of(HeadKind head) {
  switch (head) {
    case HeadKind::sequence_classification:
      return "SEQ_CLS";
    case HeadKind::token_classification:
      return "TOKEN_CLS";
    case HeadKind::question_answering:
      return "QUESTION_ANS";
    case HeadKind::causal_lm:
      return "CAUSAL_LM";
    case HeadKind::seq2seq_lm:
      return "SEQ_2_SEQ_LM";
    case HeadKind::none:
      return "FEATURE_EXTRACTION";
    default:
      return nullptr;
  }
}

std::vector<std::string> saved_modules(const Json& modules_to_save,
                                       const std::optional<std::string>& task_type) {
  std::vector<std::string> names;
  if (modules_to_save.is_string()) {
    names.push_back(modules_to_save.get<std::string>());
  } else if (!modules_to_save.is_null()) {
    read_value(modules_to_save, names, "modules_to_save");
  }
  const auto add = [&](const char* name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  if (task_type == "SEQ_CLS" || task_type == "TOKEN_CLS") {
    add("classifier");
    add("score");
  } else if (task_type == "QUESTION_ANS") {
    add("qa_outputs");
  }
  return names;
}

Json complete_config(const Json& given, Json defaults, const std::string& peft_type, const Model& model) {
  Json out = std::move(defaults);
  out.update(given);
  out["peft_type"] = peft_type;
  out["inference_mode"] = true;
  if (out["task_type"].is_null()) {
    const char* type = task_type_of(model.head);
    if (type) out["task_type"] = type;
  }
  if (out["task_type"].is_null() && out["auto_mapping"].is_null())
    out["auto_mapping"] = auto_mapping_of(model);
  if (out["base_model_name_or_path"].is_null() && !model.name_or_path.empty()) {
    out["base_model_name_or_path"] = model.name_or_path;
  }
  // Whole numbers as PEFT writes them.
  for (auto& [key, value] : out.items()) {
    if (!value.is_number_float() || !key.ends_with("alpha")) continue;
    const double number = value.get<double>();
    if (number == std::floor(number) && std::abs(number) < 1e9) value = static_cast<int64_t>(number);
  }
  return out;
}

}  // namespace graft
