// What every method's config has in common, and how configs are read: strictly from a recipe, keeping unknown
// keys from a file.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graft/base/fields.h"
#include "graft/models/model.h"
#include "graft/peft/targets.h"

namespace graft {

/// A check for keys of PEFT of which only the default (null, false, {} or []) is implemented.
Check<Json> only_unset();
/// A check for a key of which some values are implemented; `expected` is what the message says.
Check<Json> only_values(std::vector<Json> values);

/// Keys of every PEFT config.
struct CommonConfig {
  std::optional<std::string> task_type;
  Json auto_mapping, base_model_name_or_path, revision;
  bool inference_mode = true;
  std::string peft_type, peft_version = "0.21.2";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("peft_type", self.peft_type, "the method, as PEFT names it");
    visit("task_type", self.task_type, "SEQ_CLS, CAUSAL_LM, …; from the model's head where not given");
    visit("auto_mapping", self.auto_mapping, "class of the base model where there is no task type");
    visit("base_model_name_or_path", self.base_model_name_or_path, "the base model");
    visit("revision", self.revision, "the base model's revision");
    visit("inference_mode", self.inference_mode, "always true in files");
    visit("peft_version", self.peft_version, "the version of PEFT that the file is for");
  }
};

/// Keys of the methods that act on chosen modules; a method's config takes those parts that PEFT's has.
struct TargetKeys {
  Json target_modules, modules_to_save;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(
        "target_modules", self.target_modules,
        "what is adapted: a list of names, a regular expression, or all-linear; null: the family's default");
    visit("modules_to_save", self.modules_to_save, "modules trained whole beside the adapter");
  }
};
struct ExcludeKeys {
  Json exclude_modules;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("exclude_modules", self.exclude_modules, "what is not: names, or a regular expression");
  }
};
struct LayerKeys {
  Json layers_to_transform, layers_pattern;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("layers_to_transform", self.layers_to_transform, "only these layers");
    visit("layers_pattern", self.layers_pattern, "name of the list of layers");
  }
};

/// All of them.
struct TargetedConfig : CommonConfig, TargetKeys, ExcludeKeys, LayerKeys {
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    ExcludeKeys::fields(self, visit);
    LayerKeys::fields(self, visit);
  }
};

/// True for a key that files carry and recipes need not say.
bool is_file_key(const std::string& key);

/// Help on the rows' keys, without those that only files carry.
std::vector<FieldHelp> without_file_keys(std::vector<FieldHelp> rows);
/// Help on a method's keys; the config's values are the defaults.
template <HasFields Config>
std::vector<FieldHelp> method_help_of(const Config& config) {
  return without_file_keys(describe_values(config, "method"));
}
template <HasFields Config>
std::vector<FieldHelp> method_help() {
  return method_help_of(Config{});
}

/// True for a config that was read from a file: it names its method.
bool is_file_config(const Json& config);

/// modules_to_save as a list; what the task type adds to it included.
std::vector<std::string> saved_modules(const Json& modules_to_save,
                                       const std::optional<std::string>& task_type);

/// The rules that a config's keys make.
template <class Config>
TargetRules rules_of(const Config& config) {
  TargetRules rules;
  rules.target_modules = config.target_modules;
  rules.modules_to_save = saved_modules(config.modules_to_save, config.task_type);
  if constexpr (requires { config.exclude_modules; }) rules.exclude_modules = config.exclude_modules;
  if constexpr (requires { config.layers_to_transform; }) {
    rules.layers_to_transform = config.layers_to_transform;
    rules.layers_pattern = config.layers_pattern;
  }
  return rules;
}

/// PEFT's task type for a head; nullptr where it has none.
const char* task_type_of(HeadKind head);

/// Fills in what PEFT writes and a recipe does not say: peft_type, task type, the base's name, defaults.
Json complete_config(const Json& given, Json defaults, const std::string& peft_type, const Model& model);

/// A config on its way from a recipe or a file to a builder.
struct ConfigSource {
  Json json;
  bool from_file;  // a file fills the tensors; nothing is drawn
  explicit ConfigSource(const Json& config) : json(config), from_file(is_file_config(config)) {}
};

/// Reads a method's keys; the source's document becomes what the adapter's file will say. Errors: UsageError
/// (an unknown key in a recipe, a wrong value, a value that is not implemented).
template <HasFields Config>
Config read_method_config(ConfigSource& source, const std::string& peft_type, const Model& model) {
  if (source.from_file) {
    Json unknown;
    return read_known_fields<Config>(source.json, "adapter_config.json", unknown);
  }
  source.json.erase("name");
  read_fields<Config>(source.json, "method");
  source.json = complete_config(source.json, write_fields(Config{}), peft_type, model);
  return read_fields<Config>(source.json, "method");
}

}  // namespace graft
