#include "graft/peft/full.h"

#include <algorithm>
#include <functional>
#include <regex>

#include "graft/base/error.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

struct PartsConfig {
  std::string method;
  Json base_model_name_or_path;
  Json unfreeze;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("graft_method", self.method, "name of the method");
    visit("base_model_name_or_path", self.base_model_name_or_path, "the base model");
    visit("unfreeze", self.unfreeze,
          "only tensors whose whole names this regular expression matches; null: all");
  }
};

bool in_head(const Model& model, const std::string& path) {
  const std::vector<std::string> heads = model.head_modules();
  return std::any_of(heads.begin(), heads.end(),
                     [&](const std::string& head) { return path.starts_with(head + "."); });
}

/// The names by which families call their norms.
bool in_norm(const std::string& path) {
  static const std::regex norm(
      "(?:^|.*[._])(?:LayerNorm|layer_?norm|layernorm|ln_\\w+|norm|\\w*layernorm|\\w*layer_norm)"
      "\\.(?:weight|bias)");
  return std::regex_match(path, norm);
}

using Chosen = std::function<bool(const std::string& path)>;

Adapter train_parts(const TuningMethod& method, const Json& given, Model& model, const Chosen& chosen) {
  ConfigSource source(given);
  source.json.erase("name");
  const auto config = read_fields<PartsConfig>(source.json, "method");
  if (!source.from_file) {
    source.json["graft_method"] = method.name;
    if (!model.name_or_path.empty()) source.json["base_model_name_or_path"] = model.name_or_path;
  }
  AdapterBuilder builder(method, source, model, 0);
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (!chosen(path)) continue;
    if (!config.unfreeze.is_null() && !matches_rule(path, config.unfreeze, "unfreeze")) continue;
    builder.stand_in(path, file_name(model, path));
  }
  if (builder.adapter().trained.empty()) {
    throw UsageError("method", "{} finds nothing to train in a {} model, expected at least one tensor",
                     method.name, model.info().model_type);
  }
  return builder.finish();
}

Adapter create_full(const Json& config, Model& model, uint64_t) {
  return train_parts(kFull, config, model, [](const std::string&) { return true; });
}

Adapter create_bitfit(const Json& config, Model& model, uint64_t) {
  return train_parts(kBitfit, config, model, [&](const std::string& path) {
    return path.ends_with(".bias") || in_head(model, path);
  });
}

Adapter create_layer_norm(const Json& config, Model& model, uint64_t) {
  return train_parts(kLayerNorm, config, model,
                     [&](const std::string& path) { return in_norm(path) || in_head(model, path); });
}

}  // namespace

// A whole model moves with far smaller steps than a fresh adapter.
const TuningMethod kFull = {"full", nullptr, create_full, 2e-5};
const TuningMethod kBitfit = {"bitfit", nullptr, create_bitfit, 1e-3};
const TuningMethod kLayerNorm = {"layernorm", nullptr, create_layer_norm, 1e-3};

}  // namespace graft
