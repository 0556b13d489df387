#include "graft/peft/ln_tuning.h"

#include "graft/base/error.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

struct LnTuningConfig : CommonConfig, TargetKeys, ExcludeKeys {
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    ExcludeKeys::fields(self, visit);
  }
};

/// Trains the module's own tensors under PEFT's names. → how many.
size_t train_module(AdapterBuilder& builder, const std::string& path) {
  size_t count = 0;
  for (const auto& [name, parameter] : builder.model().named_parameters(true)) {
    const size_t dot = name.rfind('.');
    if (dot == std::string::npos || name.substr(0, dot) != path) continue;
    builder.stand_in(name, file_key(path + ".ln_tuning_layers" + name.substr(dot)));
    ++count;
  }
  return count;
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  auto config = read_method_config<LnTuningConfig>(source, kLnTuning.peft_type, model);
  AdapterBuilder builder(kLnTuning, source, model, seed);
  if (config.target_modules.is_null()) {
    config.target_modules = default_targets(TargetColumn::ln_tuning, model.info().model_type);
    builder.config()["target_modules"] = config.target_modules;
  }
  size_t count = 0;
  for (const std::string& path : module_paths(model)) {
    if (matches_rule(path, config.exclude_modules, "exclude_modules")) continue;
    if (matches_rule(path, config.target_modules, "target_modules")) count += train_module(builder, path);
  }
  if (count == 0) {
    throw UsageError("target_modules", "{} matches no norm of this model, expected names of its norms",
                     config.target_modules.dump());
  }
  builder.train_saved_modules(saved_modules(config.modules_to_save, config.task_type));
  return builder.finish();
}

}  // namespace

const TuningMethod kLnTuning = {"ln_tuning", "LN_TUNING", create, method_help<LnTuningConfig>, 1e-3};

}  // namespace graft
