#include "graft/peft/bottleneck.h"

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/nn/norm.h"
#include "graft/peft/adapterhub_file.h"
#include "graft/peft/bottleneck_build.h"

namespace graft {
namespace {

constexpr double kLearningRate = 3e-4, kPhmLearningRate = 3e-3;
/// Rücklé et al. leave out the lowest five of twelve layers at no loss worth naming.
constexpr int64_t kDroppedLayers = 5;

struct BottleneckRecipe : BottleneckConfig, BottleneckExtras {
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    BottleneckConfig::fields(self, visit);
    BottleneckExtras::fields(self, visit);
  }
};

/// A factor that AdapterHub's floor division makes this bottleneck of.
double factor_of(int64_t hidden, int64_t size) {
  double factor = static_cast<double>(hidden) / static_cast<double>(size);
  while (bottleneck_size(hidden, factor) < size) factor = std::nextafter(factor, 0.0);
  return factor;
}

/// Sets what the short forms (bottleneck_size, drop_layers) mean in AdapterHub's keys.
void settle(BottleneckRecipe& recipe, Model& model) {
  if (recipe.bottleneck_size) {
    const int64_t hidden = model.info().hidden_size;
    if (*recipe.bottleneck_size < 1 || *recipe.bottleneck_size > hidden)
      throw UsageError("method.bottleneck_size", "{}, expected 1 to {}", *recipe.bottleneck_size, hidden);
    recipe.reduction_factor = factor_of(hidden, *recipe.bottleneck_size);
  }
  if (recipe.scaling.is_number()) recipe.scaling = recipe.scaling.get<double>();
  for (const SublayerPlace& place : sublayer_places(model)) {
    if (place.layer_of_stack < recipe.drop_layers) recipe.leave_out.push_back(place.layer);
  }
  std::sort(recipe.leave_out.begin(), recipe.leave_out.end());
  recipe.leave_out.erase(std::unique(recipe.leave_out.begin(), recipe.leave_out.end()),
                         recipe.leave_out.end());
  const auto saved = saved_modules(Json(recipe.modules_to_save), std::optional<std::string>());
  recipe.modules_to_save = saved;
  for (const std::string& head : model.head_modules()) {
    const bool classifies = model.head != HeadKind::causal_lm && model.head != HeadKind::masked_lm &&
                            model.head != HeadKind::seq2seq_lm;
    if (classifies && std::find(saved.begin(), saved.end(), head) == saved.end())
      recipe.modules_to_save.push_back(head);
  }
}

BottleneckPlan plan_of_recipe(const TuningMethod& method, const Json& preset, const Json& given,
                              Model& model) {
  Json keys = preset;
  keys.update(given);
  keys.erase("name");
  auto recipe = read_fields<BottleneckRecipe>(keys, "method");
  settle(recipe, model);
  const auto& config = static_cast<const BottleneckConfig&>(recipe);
  const auto& extras = static_cast<const BottleneckExtras&>(recipe);
  Json kept = {{"name", method.name}};
  kept.update(write_fields(extras));
  return {config, extras, adapterhub_document(write_fields(config), kept, model)};
}

BottleneckPlan plan_of_file(const Json& document) {
  const std::string where = "adapter_config.json";
  const Json& config = document.at("config");
  if (config.contains("architecture") && !config["architecture"].is_null()) {
    throw UsageError(where, "config.architecture: {}, expected a bottleneck adapter (none or null)",
                     config["architecture"].dump());
  }
  Json unknown;
  BottleneckPlan plan{read_known_fields<BottleneckConfig>(config, where + " config", unknown), {}, document};
  if (const auto own = document.find("graft"); own != document.end()) {
    plan.extras = read_known_fields<BottleneckExtras>(*own, where + " graft", unknown);
  } else {
    read_value(document.value("name", Json("default")), plan.extras.adapter_name, where + " name");
  }
  return plan;
}

void train_norms(AdapterBuilder& builder) {
  for (const auto& [path, module] : builder.model().named_modules()) {
    if (!dynamic_cast<LayerNorm*>(module) && !dynamic_cast<RmsNorm*>(module)) continue;
    for (const char* name : {".weight", ".bias"}) {
      for (const auto& [tensor, parameter] : builder.model().named_parameters()) {
        if (tensor == path + name) builder.stand_in(tensor, tensor);
      }
    }
  }
}

Adapter created(const TuningMethod& method, const Json& preset, const Json& given, Model& model,
                uint64_t seed) {
  const bool from_file = is_adapterhub_config(given);
  const BottleneckPlan plan = from_file ? plan_of_file(given) : plan_of_recipe(method, preset, given, model);
  ConfigSource source(plan.document);
  source.from_file = from_file;
  AdapterBuilder builder(method, source, model, seed);
  builder.set_prefix("");
  add_bottlenecks(builder, plan);
  if (plan.extras.train_norms) train_norms(builder);
  builder.train_saved_modules(plan.extras.modules_to_save);
  builder.config() = plan.document;
  return builder.finish();
}

Json with(Json base, const Json& more) {
  base.update(more);
  return base;
}

Json bottleneck_preset() { return Json::object(); }

Json houlsby_preset() {
  return {
      {"mh_adapter", true}, {"output_adapter", true}, {"reduction_factor", 16}, {"non_linearity", "swish"}};
}

Json pfeiffer_preset() {
  return {{"mh_adapter", false},
          {"output_adapter", true},
          {"reduction_factor", 16},
          {"non_linearity", "relu"},
          {"original_ln_before", true}};
}

Json parallel_preset() {
  return {{"output_adapter", true}, {"reduction_factor", 2},         {"non_linearity", "relu"},
          {"is_parallel", true},    {"init_weights", "mam_adapter"}, {"scaling", 4.0}};
}

Json adapter_drop_preset(int64_t layers) { return with(pfeiffer_preset(), {{"drop_layers", layers}}); }

const Json kPhm = {{"phm_layer", true}, {"reduction_factor", 32}, {"non_linearity", "gelu"}};
Json compacter_preset() { return with(houlsby_preset(), kPhm); }
Json compacter_plus_plus_preset() { return with(pfeiffer_preset(), kPhm); }

/// All keys, with the preset's values as defaults.
std::vector<FieldHelp> help_of(const Json& preset) {
  return method_help_of(read_fields<BottleneckRecipe>(preset, "method"));
}

/// A method that is one preset.
template <const TuningMethod& kMethod, Json (*kPreset)()>
constexpr TuningMethod preset_method(const char* name, double learning_rate = kLearningRate) {
  return {.name = name,
          .peft_type = nullptr,
          .create = [](const Json& given, Model& model,
                       uint64_t seed) { return created(kMethod, kPreset(), given, model, seed); },
          .help = [] { return help_of(kPreset()); },
          .learning_rate = learning_rate,
          .files = AdapterFiles::adapterhub};
}

Adapter create_adapter_drop(const Json& given, Model& model, uint64_t seed) {
  // In small models half of the layers.
  const int64_t dropped = std::min(kDroppedLayers, model.info().num_layers / 2);
  return created(kAdapterDrop, adapter_drop_preset(dropped), given, model, seed);
}

}  // namespace

constinit const TuningMethod kBottleneck = preset_method<kBottleneck, bottleneck_preset>("bottleneck");
constinit const TuningMethod kHoulsby = preset_method<kHoulsby, houlsby_preset>("houlsby");
constinit const TuningMethod kPfeiffer = preset_method<kPfeiffer, pfeiffer_preset>("pfeiffer");
constinit const TuningMethod kAdapterDrop = {
    .name = "adapterdrop",
    .peft_type = nullptr,
    .create = create_adapter_drop,
    .help = [] { return help_of(adapter_drop_preset(kDroppedLayers)); },
    .learning_rate = kLearningRate,
    .files = AdapterFiles::adapterhub};
constinit const TuningMethod kParallel = preset_method<kParallel, parallel_preset>("parallel");
constinit const TuningMethod kCompacter =
    preset_method<kCompacter, compacter_preset>("compacter", kPhmLearningRate);
constinit const TuningMethod kCompacterPlusPlus =
    preset_method<kCompacterPlusPlus, compacter_plus_plus_preset>("compacter++", kPhmLearningRate);

void drop_adapters(Adapter& adapter, Model& model, int64_t layers) {
  if (layers <= 0) return;
  if (adapter.sublayers.empty()) {
    throw UsageError("drop-adapters", "{} layers, but this adapter has no bottlenecks; expected 0", layers);
  }
  for (const SublayerPlace& place : sublayer_places(model)) {
    if (place.layer_of_stack < layers) adapter.sublayers.erase(place.path);
  }
}

}  // namespace graft
