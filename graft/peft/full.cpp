#include "graft/peft/full.h"

#include <functional>
#include <set>

#include "graft/base/error.h"
#include "graft/peft/parts.h"

namespace graft {
namespace {

using Chosen = std::function<bool(const std::string& path)>;

/// Only what is frozen is multiplied in 8 bits. Errors: UsageError where nothing would be.
void require_frozen_map(Model& model, const AdapterBuilder& builder) {
  std::set<const Parameter*> trained;
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (builder.stands_in(path)) trained.insert(parameter.get());
  }
  for (const auto& [path, module] : model.named_modules()) {
    const auto* const linear = dynamic_cast<const Linear*>(module);
    if (linear != nullptr && linear->int8() && !trained.contains(linear->weight.get())) return;
  }
  throw UsageError(
      "model.dtype",
      "int8 with every linear map trained, expected bfloat16 or float32; only frozen ones are in 8 bits");
}

Adapter train_parts(const TuningMethod& method, const Json& given, Model& model, const Chosen& chosen) {
  const ConfigSource source = parts_source(method, given, model);
  const auto config = read_fields<PartsConfig>(source.json, "method");
  AdapterBuilder builder(method, source, model, 0);
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (chosen(path) && config.takes(path)) builder.stand_in(path, file_name(model, path));
  }
  if (builder.adapter().trained.empty()) {
    throw UsageError("method", "{} finds nothing to train in a {} model, expected at least one tensor",
                     method.name, model.info().model_type);
  }
  if (model.int8) require_frozen_map(model, builder);
  return builder.finish();
}

Adapter create_full(const Json& config, Model& model, uint64_t) {
  return train_parts(kFull, config, model, [](const std::string&) { return true; });
}

Adapter create_layer_norm(const Json& config, Model& model, uint64_t) {
  return train_parts(kLayerNorm, config, model,
                     [&](const std::string& path) { return in_norm(path) || in_head(model, path); });
}

Adapter create_head(const Json& config, Model& model, uint64_t) {
  return train_parts(kHead, config, model, [&](const std::string& path) { return in_head(model, path); });
}

}  // namespace

// A whole model moves with far smaller steps than a fresh adapter.
const TuningMethod kFull = {"full", nullptr, create_full, method_help<PartsConfig>, 2e-5};
const TuningMethod kLayerNorm = {"layernorm", nullptr, create_layer_norm, method_help<PartsConfig>, 1e-3};
const TuningMethod kHead = {"head", nullptr, create_head, method_help<PartsConfig>, 1e-3};

}  // namespace graft
