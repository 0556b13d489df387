#include "graft/peft/intrinsic.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

#include "graft/base/error.h"
#include "graft/peft/builder.h"
#include "graft/peft/intrinsic_map.h"

namespace graft {
namespace {

struct IntrinsicConfig : CommonConfig {
  int64_t d = 1000;
  std::string projection = "fastfood", gradient = "exact", head = "inside";
  Json target_tensors = "all";
  std::optional<int64_t> projection_seed;
  int64_t dimension = 0, tensors = 0;
  Json modules_to_save;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    visit("d", self.d, "how many numbers are trained", at_least<int64_t>(1));
    visit("projection", self.projection, "the random map; dense is for small models",
          one_of({"fastfood", "dense"}));
    visit("gradient", self.gradient,
          "reference: as the published code, a map a tensor, its gradients divided by the map's size, d "
          "cropped to "
          "small tensors",
          one_of({"exact", "reference"}));
    visit("target_tensors", self.target_tensors,
          "what the numbers move: all, no_embeddings, or a regular expression that a tensor's whole name "
          "matches");
    visit("head", self.head, "a new head is moved by the d numbers (inside) or trained beside them (outside)",
          one_of({"inside", "outside"}));
    visit("projection_seed", self.projection_seed, "seed of the random map; null: the run's");
    visit("dimension", self.dimension, "how many numbers are moved; set by the model", at_least<int64_t>(0));
    visit("tensors", self.tensors, "how many tensors are moved; set by the model", at_least<int64_t>(0));
    visit("modules_to_save", self.modules_to_save, "modules trained whole beside the adapter");
  }
};

bool in_head(const Model& model, const std::string& path) {
  const std::vector<std::string> heads = model.head_modules();
  return std::any_of(heads.begin(), heads.end(),
                     [&](const std::string& head) { return path.starts_with(head + "."); });
}

/// The weights of all modules of a kind.
template <class Kind>
std::set<const Parameter*> weights_of(Model& model) {
  std::set<const Parameter*> out;
  for (const auto& [path, module] : model.named_modules()) {
    if (const auto* found = dynamic_cast<Kind*>(module)) out.insert(found->weight.get());
  }
  return out;
}

/// What θ moves, in the model's order, without what another part of the adapter trains.
std::vector<MappedTensor> chosen_tensors(Model& model, const IntrinsicConfig& config,
                                         const AdapterBuilder& builder) {
  const std::set<const Parameter*> tables = weights_of<Embedding>(model), maps = weights_of<Linear>(model);
  std::vector<MappedTensor> out;
  bool any = false;  // beside the head
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (builder.stands_in(path)) continue;
    const bool head = in_head(model, path);
    bool chosen = false;
    if (head) {
      chosen = config.head == "inside";
    } else if (config.target_tensors == "no_embeddings") {
      chosen = tables.count(parameter.get()) == 0;
    } else {
      chosen = config.target_tensors == "all" || matches_rule(path, config.target_tensors, "target_tensors");
    }
    const bool narrow = parameter->base.scalar_type() == at::kBFloat16 && maps.count(parameter.get()) > 0 &&
                        tables.count(parameter.get()) == 0;
    if (chosen) out.push_back({path, parameter->shape, parameter->base.numel(), narrow});
    any = any || (chosen && !head);
  }
  if (!any) throw UsageError("method.target_tensors", "{} matches no tensor", config.target_tensors.dump());
  return out;
}

/// The file says how large the base was that it belongs to: d numbers alone would fit any.
void check_base(const IntrinsicConfig& config, const IntrinsicMap& map) {
  const auto tensors = static_cast<int64_t>(map.tensors().size());
  if (config.dimension == map.dimension() && config.tensors == tensors) return;
  throw UsageError("adapter",
                   "made for a base with {} numbers in {} tensors, this one has {} in {}; expected its own",
                   config.dimension, config.tensors, map.dimension(), tensors);
}

/// The last tensors computed without a graph: evaluation asks for the same ones batch after batch.
struct LastComputed {
  Tensor theta, lambda;
  TensorMap tensors;
  bool holds(const Tensor& now_theta, const Tensor& now_lambda) const {
    return theta.defined() && theta.equal(now_theta) && (!lambda.defined() || lambda.equal(now_lambda));
  }
};

std::function<TensorMap(const TensorMap&)> computation(std::shared_ptr<const IntrinsicMap> map, Tensor theta,
                                                       Tensor lambda) {
  auto last = std::make_shared<LastComputed>();
  return [map = std::move(map), theta, lambda, last](const TensorMap& bases) {
    const bool graph = at::GradMode::is_enabled();
    if (!graph && last->holds(theta, lambda)) return last->tensors;
    *last = {};
    std::vector<Tensor> in_order;
    for (const MappedTensor& tensor : map->tensors()) in_order.push_back(bases.at(tensor.path));
    const std::vector<Tensor> values = map->apply(in_order, theta, lambda);
    TensorMap out;
    for (size_t i = 0; i < values.size(); ++i) out[map->tensors()[i].path] = values[i];
    if (!graph) *last = {theta.detach().clone(), lambda.defined() ? lambda.detach().clone() : Tensor(), out};
    return out;
  };
}

/// θ0 of a head that is moved: new heads are drawn at random, so the file must hold it.
void keep_heads(AdapterBuilder& builder, const IntrinsicMap& map) {
  std::map<std::string, Tensor> bases;
  for (const auto& [path, parameter] : builder.model().named_parameters()) bases[path] = parameter->base;
  for (const MappedTensor& tensor : map.tensors()) {
    if (in_head(builder.model(), tensor.path))
      builder.keep(file_key(tensor.path), widened(bases.at(tensor.path)));
  }
}

int64_t theta_size(const TuningMethod& method, const IntrinsicConfig& config, int64_t tensors) {
  if (&method == &kDid) return config.d;
  // The published code's λ has one entry more than there are tensors, without effect.
  const int64_t factors = tensors + (config.gradient == "reference" ? 1 : 0);
  if (config.d <= factors) {
    throw UsageError("method.d", "{}, expected more than {}: said spends one number a tensor on its factors",
                     config.d, factors);
  }
  return config.d - factors;
}

Adapter create(const TuningMethod& method, const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  IntrinsicConfig config = read_method_config<IntrinsicConfig>(source, method.peft_type, model);
  if (!config.projection_seed) config.projection_seed = static_cast<int64_t>(seed >> 1);
  AdapterBuilder builder(method, source, model, seed);
  std::vector<std::string> saved = saved_modules(config.modules_to_save, std::nullopt);
  if (config.head == "outside" && !builder.from_file()) {
    for (const std::string& head : model.head_modules()) {
      if (std::find(saved.begin(), saved.end(), head) == saved.end()) saved.push_back(head);
    }
  }
  if (!saved.empty()) builder.train_saved_modules(saved);
  std::vector<MappedTensor> tensors = chosen_tensors(model, config, builder);
  const auto count = static_cast<int64_t>(tensors.size());
  IntrinsicOptions options{.theta_size = theta_size(method, config, count),
                           .seed = static_cast<uint64_t>(*config.projection_seed),
                           .per_tensor = &method == &kSaid || config.gradient == "reference",
                           .dense = config.projection == "dense",
                           .reference = config.gradient == "reference"};
  auto map = std::make_shared<const IntrinsicMap>(std::move(tensors), options);
  if (builder.from_file()) {
    check_base(config, *map);
  } else {
    builder.config()["projection_seed"] = *config.projection_seed;
    builder.config()["dimension"] = map->dimension();
    builder.config()["tensors"] = count;
  }
  const Tensor theta = builder.train(file_key("intrinsic.theta"), builder.zeros({options.theta_size}));
  const Tensor lambda = &method == &kDid ? Tensor()
                                         : builder.train(file_key("intrinsic.lambda"),
                                                         builder.ones({config.d - options.theta_size}));
  keep_heads(builder, *map);
  std::map<std::string, Tensor> bases;
  for (const auto& [path, parameter] : model.named_parameters()) bases[path] = parameter->base;
  for (const MappedTensor& tensor : map->tensors())
    builder.adapter().stand_ins[tensor.path] = bases.at(tensor.path);
  builder.adapter().compute_stand_ins = computation(std::move(map), theta, lambda);
  return builder.finish();
}

}  // namespace

const TuningMethod kDid = {
    "did", "DID",
    [](const Json& config, Model& model, uint64_t seed) { return create(kDid, config, model, seed); },
    method_help<IntrinsicConfig>, 1e-2};
const TuningMethod kSaid = {
    "said", "SAID",
    [](const Json& config, Model& model, uint64_t seed) { return create(kSaid, config, model, seed); },
    method_help<IntrinsicConfig>, 1e-2};

}  // namespace graft
