// What the methods that act inside linear maps have in common: targets, heads, biases, the layout of Conv1D.
#pragma once
#include <string>

#include "graft/base/error.h"
#include "graft/peft/builder.h"

namespace graft {

struct LinearMethod {
  const TuningMethod& method;
  TargetColumn column;
  bool on_conv1d = false;  // PEFT has it on GPT-2's maps too
};

/// Warns of files that PEFT will not open.
void warn_of_conv1d(const LinearMethod& what, const Targets& targets);

/// A whole adapter: `adapt(builder, config, path, linear)` for each targeted map, `prepare(builder, config,
/// targets)` before the first.
template <HasFields Config, class Adapt, class Prepare>
Adapter adapt_linears(const LinearMethod& what, ConfigSource source, Model& model, uint64_t seed, Adapt adapt,
                      Prepare prepare) {
  Config config = read_method_config<Config>(source, what.method.peft_type, model);
  AdapterBuilder builder(what.method, source, model, seed);
  const Targets targets = builder.find(config, what.column);
  if (!targets.embeddings.empty()) {
    throw UsageError("target_modules", "{} is an embedding, expected linear maps: {} acts on no others",
                     targets.embeddings[0].first, what.method.name);
  }
  if (!source.from_file) warn_of_conv1d(what, targets);
  if constexpr (requires { config.fan_in_fan_out; }) builder.set_fan_in_fan_out(targets);
  prepare(builder, config, targets);
  for (const auto& [path, linear] : targets.linears) adapt(builder, config, path, *linear);
  builder.train_saved_modules(saved_modules(config.modules_to_save, config.task_type));
  if constexpr (requires { config.bias; }) builder.train_biases(config.bias, targets);
  return builder.finish();
}

template <HasFields Config, class Adapt>
Adapter adapt_linears(const LinearMethod& what, ConfigSource source, Model& model, uint64_t seed,
                      Adapt adapt) {
  const auto nothing = [](AdapterBuilder&, const Config&, const Targets&) {};
  return adapt_linears<Config>(what, std::move(source), model, seed, adapt, nothing);
}

/// A pattern's value at a path as a count. Errors: UsageError for what is no whole number of at least 1.
int64_t count_at(const std::string& path, double value, const char* where);
/// rank_pattern's rank at a path, else `r`. Errors: as count_at.
int64_t rank_at(const std::string& path, const Json& rank_pattern, int64_t r);

/// 1 / √fan_in: the bound of torch's kaiming_uniform_(a = √5), PEFT's usual initial value.
double kaiming_bound(int64_t fan_in);

/// x in the type that a method's tensors have.
Tensor like(const Tensor& x, const Tensor& parameter);

}  // namespace graft
