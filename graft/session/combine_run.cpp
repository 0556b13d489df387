#include "graft/session/combine_run.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/peft/builder.h"
#include "graft/peft/lora.h"
#include "graft/peft/lora_layer.h"
#include "graft/peft/saved_module.h"
#include "graft/session/adapter_head.h"
#include "graft/session/run_folder.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// One adapter's update of one map, as [out, in] of PEFT's file (an embedding's transposed).
struct Update {
  std::optional<LowRankUpdate> factors;  // where the method has them
  Tensor delta;
  double weight = 1;
};

Update update_of(const std::string& path, const Linear& linear, const LinearHook& hook) {
  if (dynamic_cast<const SavedLinear*>(&hook) != nullptr)
    throw UsageError("adapter", "{} is trained whole, expected updates only", path);
  const std::optional<Affine> merged = hook.merged(linear);
  if (!merged) throw UsageError("adapter", "{}: this method has no merged form, expected one that has", path);
  const Tensor bias = linear.bias ? widened(linear.bias->base) : Tensor();
  if (merged->bias.defined() && !(bias.defined() && merged->bias.equal(bias)))
    throw UsageError("adapter", "{} has a trained bias (lora_bias), expected weights only", path);
  Update out{{}, merged->weight - widened(linear.weight->base)};
  if (const auto* lora = dynamic_cast<const LoraLinear*>(&hook)) {
    const auto [a, b] = lora->tensors().plain();
    out.factors = LowRankUpdate{a.detach(), lora->tensors().scale * b.detach()};
  }
  return out;
}

Update update_of(const std::string& path, const Embedding& embedding, const EmbeddingHook& hook) {
  if (dynamic_cast<const SavedEmbedding*>(&hook) != nullptr)
    throw UsageError("adapter", "{} is trained whole, expected updates only", path);
  const std::optional<Tensor> merged = hook.merged(embedding);
  if (!merged) throw UsageError("adapter", "{}: this method has no merged form, expected one that has", path);
  Update out{{}, (*merged - widened(embedding.weight->base)).t()};
  if (const auto* lora = dynamic_cast<const LoraEmbedding*>(&hook)) {
    const LoraTensors& tensors = lora->tensors();
    out.factors = LowRankUpdate{tensors.a.detach(), tensors.scale * tensors.b.detach()};
  }
  return out;
}

/// What the result holds beside its updates: heads that an adapter trained.
void take_rest(const Adapter& adapter, const fs::path& folder, TensorMap& rest) {
  for (const auto& [path, tensor] : adapter.stand_ins) {
    const std::string key = file_key(path);
    if (adapter.trained.count(key) == 0) {
      throw UsageError("adapter", "{}: {} is changed beside the updates, expected updates and heads only",
                       folder.string(), path);
    }
    const Tensor& own = adapter.trained.at(key);
    const auto known = rest.find(key);
    if (known != rest.end() && !known->second.equal(own)) {
      throw UsageError("adapter",
                       "{}: {} is trained in several adapters and differs, expected it in one only",
                       folder.string(), path);
    }
    rest[key] = own.detach();
  }
}

void require_updates_only(const Adapter& adapter, const fs::path& folder) {
  if (!adapter.input && adapter.sublayers.empty()) return;
  throw UsageError("adapter", "{} acts outside of the weights, expected a method inside of them",
                   folder.string());
}

/// What the adapters do to one map: never more than one map's updates are held.
std::vector<Update> updates_of(const std::string& path, Model& model, const std::vector<Adapter>& adapters,
                               const std::vector<AdapterChoice>& choices) {
  std::vector<Update> out;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const auto linear = adapters[i].linears.find(path);
    const auto embedding = adapters[i].embeddings.find(path);
    if (linear != adapters[i].linears.end()) {
      out.push_back(update_of(path, dynamic_cast<Linear&>(*model.find(path)), *linear->second));
    } else if (embedding != adapters[i].embeddings.end()) {
      out.push_back(update_of(path, dynamic_cast<Embedding&>(*model.find(path)), *embedding->second));
    } else {
      continue;
    }
    out.back().weight = choices[i].weight;
  }
  return out;
}

/// How far the result is from what the rule makes, by squares.
struct Distance {
  double missed = 0, whole = 0;
  void add(const Tensor& wanted, const LowRankUpdate& got) {
    missed += (wanted - at::matmul(got.b, got.a)).square().sum().item<double>();
    whole += wanted.square().sum().item<double>();
    if (!std::isfinite(missed))
      throw DataError("combine", "a result that is not finite, expected sound adapters and models");
  }
  double share() const { return whole > 0 ? std::sqrt(missed / whole) : 0; }
};

int64_t largest_rank(const std::string& path, const std::vector<Update>& updates) {
  int64_t rank = 0;
  for (const Update& update : updates) {
    if (!update.factors)
      throw UsageError("rank", "missing, expected one: the method at {} has none of its own", path);
    rank = std::max(rank, update.factors->a.size(0));
  }
  return rank;
}

LowRankUpdate combine(const std::string& path, const std::vector<Update>& updates,
                      const CombineRunOptions& options, Distance& distance) {
  std::vector<Tensor> deltas;
  std::vector<LowRankUpdate> factors;
  std::vector<double> weights;
  for (const Update& update : updates) {
    deltas.push_back(update.delta);
    weights.push_back(update.weight);
    if (update.factors) factors.push_back(*update.factors);
  }
  const bool exact = options.rule.name == "cat" || (options.rule.name == "linear" && options.rank == 0);
  const Tensor wanted = combined(deltas, weights, options.rule, path);
  if (exact && factors.size() != updates.size())
    throw UsageError("how", "{} without a rank, expected LoRA's updates at {}; try svd", options.rule.name,
                     path);
  const LowRankUpdate out =
      exact ? stacked(factors, weights)
            : nearest(wanted, options.rank > 0 ? options.rank : largest_rank(path, updates));
  distance.add(wanted, out);
  return out;
}

/// A LoRA adapter of scale 1 with these updates; `rest` are its heads.
Adapter adapter_with(const std::map<std::string, LowRankUpdate>& updates, const TensorMap& rest,
                     Model& model) {
  int64_t most = 0;
  Json targets = Json::array(), ranks = Json::object();
  for (const auto& [path, update] : updates) most = std::max(most, update.a.size(0));
  for (const auto& [path, update] : updates) {
    targets.push_back(path);
    if (update.a.size(0) != most) ranks[path] = update.a.size(0);
  }
  const Json config = {{"name", "lora"},        {"r", most},
                       {"lora_alpha", most},    {"target_modules", targets},
                       {"rank_pattern", ranks}, {"alpha_pattern", ranks}};
  Adapter adapter = create_lora(kLora, config, model, 0);
  for (const auto& [path, update] : updates) {
    const bool embedding = adapter.embeddings.count(path) != 0;
    const char* a = embedding ? ".lora_embedding_A" : ".lora_A.weight";
    const char* b = embedding ? ".lora_embedding_B" : ".lora_B.weight";
    adapter.trained.at(file_key(path + a)).copy_(update.a);
    adapter.trained.at(file_key(path + b)).copy_(update.b);
  }
  for (const auto& [key, tensor] : rest) {
    const auto place = adapter.trained.find(key);
    if (place == adapter.trained.end())
      throw UsageError("adapter", "{} is trained whole, expected updates and heads only", key);
    place->second.copy_(tensor);
  }
  return adapter;
}

Json target_rule(const std::string& text) {
  if (text.empty()) return "all-linear";
  if (text.find_first_of("*\\[(|?") != std::string::npos) return text;
  Json names = Json::array();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names.size() == 1 && is_all_linear(names[0]) ? names[0] : names;
}

/// The nearest updates to a tuned checkpoint; `left` names the tensors that differ and are none of them.
std::map<std::string, LowRankUpdate> extract(const CombineRunOptions& options, Model& base,
                                             Distance& distance, TensorMap& rest,
                                             std::vector<std::string>& left) {
  if (options.rank < 1) throw UsageError("rank", "missing, expected the rank of the extracted update");
  LoadOptions load;
  load.head = base.head;
  const auto tuned = load_model(Checkpoint::open(options.tuned), load);
  TargetRules rules;
  rules.target_modules = target_rule(options.target_modules);
  rules.modules_to_save = base.head_modules();
  std::map<std::string, LowRankUpdate> out;
  std::map<std::string, Tensor> tensors;
  for (const auto& [path, parameter] : tuned->named_parameters(true))
    tensors[path] = widened(parameter->base);
  for (const auto& [path, linear] : find_targets(base, rules).linears) {
    const auto found = tensors.find(path + ".weight");
    if (found == tensors.end() || found->second.sizes().vec() != linear->weight->shape)
      throw DataError(options.tuned.string(), "no {} of the base's shape, expected a tuned copy of the base",
                      path);
    const Tensor delta = found->second - widened(linear->weight->base);
    out[path] = nearest(delta, options.rank);
    distance.add(delta, out[path]);
  }
  const auto heads = base.head_modules();
  for (const auto& [path, parameter] : base.named_parameters()) {
    const bool head = std::any_of(heads.begin(), heads.end(),
                                  [&](const std::string& name) { return path.starts_with(name + "."); });
    const auto found = tensors.find(path);
    if (found == tensors.end() || found->second.sizes().vec() != parameter->shape)
      throw DataError(options.tuned.string(), "no {} of the base's shape, expected a tuned copy of the base",
                      path);
    if (head) rest[file_key(path)] = found->second;
    const bool taken = path.ends_with(".weight") && out.count(path.substr(0, path.size() - 7)) != 0;
    if (!head && !taken && !found->second.equal(widened(parameter->base))) left.push_back(path);
  }
  return out;
}

void check(const CombineRunOptions& options) {
  if (options.adapters.empty() == options.tuned.empty())
    throw UsageError("adapter", "adapters and a tuned model together, or neither, expected one kind");
  if (options.rank < 0) throw UsageError("rank", "{}, expected at least 1", options.rank);
  if (options.rule.name == "cat" && options.rank > 0)
    throw UsageError("rank", "with cat, expected none: its rank is the sum of all; svd takes one");
  check_new_folder(options.out);
}

}  // namespace

RunReport combine_run(const CombineRunOptions& options) {
  check(options);
  const at::NoGradGuard no_grad;
  LoadOptions load;
  for (const AdapterChoice& choice : options.adapters) load = with_adapter_head(load, choice.folder);
  const auto model = load_model(Checkpoint::open(options.model), load);
  std::map<std::string, LowRankUpdate> result;
  TensorMap rest;
  std::vector<std::string> left;
  Distance distance;
  if (!options.tuned.empty()) {
    result = extract(options, *model, distance, rest, left);
  } else {
    std::vector<Adapter> adapters;
    std::set<std::string> paths;
    for (const AdapterChoice& choice : options.adapters) {
      const Adapter& adapter = adapters.emplace_back(read_adapter(choice.folder, *model));
      require_updates_only(adapter, choice.folder);
      for (const auto& [path, hook] : adapter.linears) paths.insert(path);
      for (const auto& [path, hook] : adapter.embeddings) paths.insert(path);
      take_rest(adapter, choice.folder, rest);
    }
    for (const std::string& path : paths)
      result[path] = combine(path, updates_of(path, *model, adapters, options.adapters), options, distance);
  }
  const Adapter adapter = adapter_with(result, rest, *model);
  if (options.out.has_parent_path()) fs::create_directories(options.out.parent_path());
  AtomicFolder folder(options.out);
  write_adapter(folder.path(), adapter, *model);
  folder.commit();
  RunReport report;
  const auto rank = adapter.config["r"].get<int64_t>();
  report.document = {{"out", options.out.string()},
                     {"maps", result.size()},
                     {"rank", rank},
                     {"relative_error", distance.share()},
                     {"left_out", left}};
  report.text = fmt::format("{}: LoRA of rank {} in {} maps, {:.3g} of the wanted update's norm is missed",
                            options.out.string(), rank, result.size(), distance.share());
  if (!left.empty())
    report.text +=
        fmt::format("\nchanged in the tuned model, but no part of the adapter: {}", fmt::join(left, ", "));
  return report;
}

}  // namespace graft
