// Puts an adapter together: its trained tensors under the keys of PEFT's file, its hooks, its stand-ins.
#pragma once
#include <string>
#include <vector>

#include "graft/peft/adapter.h"
#include "graft/peft/default_targets.h"
#include "graft/peft/method_config.h"

namespace graft {

/// "base_model.model." + a module's or tensor's path.
std::string file_key(const std::string& path);

/// float32 (float64 stays): the type that adapters compute in.
Tensor widened(const Tensor& tensor);

class AdapterBuilder {
 public:
  AdapterBuilder(const TuningMethod& method, ConfigSource config, Model& model, uint64_t seed);

  Model& model() const { return model_; }
  /// A file fills the tensors: nothing is drawn.
  bool from_file() const { return from_file_; }

  // Initial values; zeros where a file fills them. `key` names the stream. Errors: UsageError where all of
  // them together, not yet made, are more than the machine's memory.
  Tensor zeros(const std::vector<int64_t>& shape);
  Tensor ones(const std::vector<int64_t>& shape);
  Tensor uniform(const std::string& key, const std::vector<int64_t>& shape, double bound);
  Tensor normal(const std::string& key, const std::vector<int64_t>& shape, double standard_deviation);

  /// The i-th number below `bound` of the stream.
  int64_t draw_below(const std::string& key, int64_t i, int64_t bound) const;

  /// In front of the keys of modules that are trained whole; file_key's where nothing is said.
  void set_prefix(const std::string& prefix) { prefix_ = prefix; }

  /// → the leaf that is trained and saved as `key`.
  Tensor train(const std::string& key, const Tensor& initial);
  /// The tensor is in the file and not trained.
  void keep(const std::string& key, const Tensor& tensor) { adapter_.untrained[key] = tensor; }
  /// The base tensor with this path is trained in its file's shape, saved as `key`. → the leaf.
  Tensor stand_in(const std::string& path, const std::string& key);
  bool stands_in(const std::string& path) const { return adapter_.stand_ins.count(path) != 0; }

  /// Errors: UsageError where the place is taken by another part of the same adapter.
  void hook(const std::string& path, std::shared_ptr<LinearHook> hook);
  void hook(const std::string& path, std::shared_ptr<EmbeddingHook> hook);
  void hook(const std::string& path, std::shared_ptr<SublayerHook> hook);

  /// modules_to_save: every tensor of a module whose path ends with a name (without a dot, as PEFT has it).
  /// Writes the list with the task's heads into the config.
  void train_saved_modules(const std::vector<std::string>& names);
  /// bias: "none", "all", or "…_only" for the biases of `targets`.
  void train_biases(const std::string& bias, const Targets& targets);
  /// The targets of a config, the family's default where it names none; writes the names into the adapter's
  /// config.
  template <class Config>
  Targets find(Config& config, TargetColumn column) {
    if (config.target_modules.is_null())
      config.target_modules = default_targets(column, model_.info().model_type);
    const Targets targets = find_targets(model_, rules_of(config));
    warn_of_unmatched("target_modules", config.target_modules);
    warn_of_unmatched("modules_to_save", config.modules_to_save);
    if constexpr (requires { config.exclude_modules; })
      warn_of_unmatched("exclude_modules", config.exclude_modules);
    const bool all = is_all_linear(config.target_modules);
    this->config()["target_modules"] = all ? resolved_targets(model_, targets) : config.target_modules;
    return targets;
  }
  /// fan_in_fan_out says how the targets' files lie: PEFT corrects it by the layers' type, and so does this.
  void set_fan_in_fan_out(const Targets& targets);

  Adapter& adapter() { return adapter_; }
  Json& config() { return adapter_.config; }
  Adapter finish() { return std::move(adapter_); }

 private:
  void reserve(const std::vector<int64_t>& shape);
  void save_module(const std::string& path);
  /// Names in a recipe that fit nothing are misspelt.
  void warn_of_unmatched(const char* key, const Json& names) const;

  Model& model_;
  uint64_t seed_;
  bool from_file_;
  Adapter adapter_;
  int64_t reserved_ = 0;  // bytes, at the least, of what was made so far
  std::string prefix_ = file_key("");
  std::vector<std::string> saved_;  // paths of the modules that are trained whole
  std::map<std::string, std::shared_ptr<Parameter>> parameters_;  // by every path, tied ones too
};

}  // namespace graft
