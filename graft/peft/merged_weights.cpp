#include "graft/peft/merged_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/peft/builder.h"
#include "graft/peft/lora_layer.h"

namespace graft {
namespace {

void refuse_unmergeable(const Adapter& adapter) {
  if (adapter.input || !adapter.sublayers.empty()) {
    throw UsageError("merge",
                     "{} acts outside of the weights and has no merged form, expected another method",
                     adapter.method ? adapter.method->name : "this method");
  }
}

[[noreturn]] void fail_not_finite(const std::string& path) {
  throw DataError("merge", "{} has values that are not finite, expected a sound adapter", path);
}

void require_finite(const std::string& path, const Tensor& values) {
  if (!values.isfinite().all().item<bool>()) fail_not_finite(path);
}

[[noreturn]] void fail_without_form(const std::string& module) {
  throw UsageError("merge", "{}: this method has no merged form, expected another method", module);
}

std::string module_of(const std::string& path) { return path.substr(0, path.rfind('.')); }

/// The adapter's tensors in place of base tensors, as a pass would see them, by every path of a tied one.
TensorMap stand_ins_of(const Adapter& adapter, Model& model) {
  if (adapter.stand_ins.empty()) return {};
  attach(adapter, model);
  TensorMap out;
  for (const auto& [path, parameter] : model.named_parameters(true)) {
    if (parameter->stand_in.defined()) out[path] = parameter->stand_in;
  }
  detach(model);
  return out;
}

template <class Hook>
Hook* hook_at(const std::map<std::string, std::shared_ptr<Hook>>& hooks, const std::string& module) {
  const auto found = hooks.find(module);
  return found == hooks.end() ? nullptr : found->second.get();
}

/// From each value towards the next one, by a weight of 1 all the way.
void blend(TensorMap& values, const TensorMap& next, double weight) {
  for (auto& [path, value] : values) {
    const Tensor to = widened(next.at(path));
    value = weight == 1 ? to : value + weight * (to - value);
  }
}

/// Puts values in place of a module's base tensors while it is alive.
class InPlace {
 public:
  void put(Parameter& parameter, const Tensor& value) {
    parameters_.push_back(&parameter);
    parameter.stand_in = value;
  }
  InPlace() = default;
  ~InPlace() {
    for (Parameter* parameter : parameters_) parameter->stand_in = Tensor();
  }
  InPlace(const InPlace&) = delete;
  InPlace& operator=(const InPlace&) = delete;

 private:
  std::vector<Parameter*> parameters_;
};

}  // namespace

MergedWeights::MergedWeights(std::vector<WeightedAdapter> adapters, Model& model, at::ScalarType type)
    : adapters_(std::move(adapters)), model_(model), type_(type) {
  const at::NoGradGuard no_grad;
  detach(model_);
  for (const auto& [path, parameter] : model_.named_parameters(true)) parameters_[path] = parameter;
  for (const WeightedAdapter& part : adapters_) {
    refuse_unmergeable(*part.adapter);
    stand_ins_.push_back(stand_ins_of(*part.adapter, model_));
    for (const auto& [path, tensor] : stand_ins_.back()) paths_.insert(path);
    for (const auto& [module, hook] : part.adapter->embeddings) paths_.insert(module + ".weight");
    for (const auto& [module, hook] : part.adapter->linears) {
      paths_.insert(module + ".weight");
      if (parameters_.contains(module + ".bias")) paths_.insert(module + ".bias");
    }
  }
}

Tensor MergedWeights::value(const std::string& path) {
  const std::string module = module_of(path);
  // A low-rank update leaves the bias as it is.
  const bool kept = path.ends_with(".bias") && low_rank_at(module).has_value();
  if (module != module_ && !kept) make(module);
  const auto held = held_.find(path);
  return held != held_.end() ? held->second : typed(widened(parameters_.at(path)->base));
}

Tensor MergedWeights::typed(const Tensor& value) const {
  return type_ == at::ScalarType::Undefined ? value : value.to(type_);
}

void MergedWeights::make(const std::string& module) {
  const at::NoGradGuard no_grad;
  held_.clear();
  module_ = module;
  if (const auto change = low_rank_at(module)) {
    const auto& linear = dynamic_cast<const Linear&>(*model_.find(module));
    probe(linear.in());
    held_[module + ".weight"] = merged_rows(module, linear.weight->base, *change);
    return;
  }
  for (const char* name : {".weight", ".bias"}) {
    const std::string path = module + name;
    if (paths_.contains(path)) held_[path] = widened(parameters_.at(path)->base);
  }
  for (size_t i = 0; i < adapters_.size(); ++i) apply(i, module);
  for (auto& [path, value] : held_) value = typed(value);
}

std::optional<ops::LowRankChange> MergedWeights::low_rank_at(const std::string& module) const {
  if (dynamic_cast<Linear*>(model_.find(module)) == nullptr) return {};
  std::vector<Tensor> a, b;
  std::vector<double> scales;
  for (size_t i = 0; i < adapters_.size(); ++i) {
    if (stand_ins_[i].contains(module + ".weight") || stand_ins_[i].contains(module + ".bias")) return {};
    const LinearHook* const hook = hook_at(adapters_[i].adapter->linears, module);
    if (hook == nullptr) continue;
    const auto* const lora = dynamic_cast<const LoraLinear*>(hook);
    if (lora == nullptr || lora->tensors().bias.defined()) return {};
    const auto [low, high] = lora->tensors().plain();
    a.push_back(low);
    b.push_back(high);
    scales.push_back(lora->tensors().scale * adapters_[i].weight);
  }
  if (a.empty()) return {};
  if (a.size() == 1) return ops::LowRankChange{a[0], b[0], scales[0]};
  for (size_t i = 0; i < b.size(); ++i) b[i] = b[i] * scales[i];
  return ops::LowRankChange{at::cat(a, 0), at::cat(b, 1), 1};
}

Tensor MergedWeights::merged_rows(const std::string& module, const Tensor& base,
                                  const ops::LowRankChange& change) {
  const auto type = type_ == at::ScalarType::Undefined ? widened(base.narrow(0, 0, 0)).scalar_type() : type_;
  const ops::MergedWeight merged = ops::low_rank_merge(base, change, probes_.at(base.size(1)), type);
  if (!std::isfinite(merged.difference)) fail_not_finite(module);
  const std::lock_guard lock(noting_);
  largest_difference_ = std::max(largest_difference_, merged.difference);
  return merged.weight;
}

std::optional<MergedWeights::Rows> MergedWeights::rows(const std::string& path) {
  const std::string module = module_of(path);
  if (!path.ends_with(".weight")) return {};
  const auto change = low_rank_at(module);
  if (!change) return {};
  const auto& linear = dynamic_cast<const Linear&>(*model_.find(module));
  probe(linear.in());
  return [this, module, change = *change, base = linear.weight->base](int64_t first, int64_t count) {
    const at::NoGradGuard no_grad;
    const ops::LowRankChange part{change.a, change.b.narrow(0, first, count), change.scale};
    return merged_rows(module, base.narrow(0, first, count), part);
  };
}

void MergedWeights::apply(size_t index, const std::string& module) {
  const WeightedAdapter& part = adapters_[index];
  TensorMap next = held_;
  for (auto& [path, value] : next) {
    const auto stand_in = stand_ins_[index].find(path);
    if (stand_in == stand_ins_[index].end()) continue;
    // What is computed is the base and an addition to it; what is trained whole takes the base's place.
    const bool added = bool(part.adapter->compute_stand_ins);
    value =
        added ? value + (widened(stand_in->second) - widened(parameters_.at(path)->base)) : stand_in->second;
  }
  InPlace in_place;
  for (const auto& [path, value] : next) in_place.put(*parameters_.at(path), value);
  if (LinearHook* hook = hook_at(part.adapter->linears, module)) {
    auto& linear = dynamic_cast<Linear&>(*model_.find(module));
    const double difference = apply_linear(linear, module, *hook, probe(linear.in()), next);
    largest_difference_ = std::max(largest_difference_, difference);
  }
  if (EmbeddingHook* hook = hook_at(part.adapter->embeddings, module)) {
    const std::optional<Tensor> merged = hook->merged(dynamic_cast<Embedding&>(*model_.find(module)));
    if (!merged) fail_without_form(module);
    next[module + ".weight"] = *merged;
  }
  for (auto& [path, value] : next) {
    // A linear's weight was seen at work: a value that is not finite is one in its outputs.
    if (!(part.adapter->linears.contains(module) && path.ends_with(".weight"))) require_finite(path, value);
  }
  blend(held_, next, part.weight);
}

double MergedWeights::apply_linear(Linear& linear, const std::string& module, LinearHook& hook,
                                   const Tensor& probe, TensorMap& values) const {
  const std::optional<Affine> merged = hook.merged(linear);
  if (!merged) fail_without_form(module);
  if (merged->bias.defined() && !linear.bias) {
    throw UsageError("merge", "{} has no bias to merge one into, expected a map with a bias", module);
  }
  values[module + ".weight"] = merged->weight;
  if (merged->bias.defined()) values[module + ".bias"] = merged->bias;
  const Tensor x = probe.to(merged->weight.scalar_type());
  Tensor plain = at::matmul(x, merged->weight.t());
  if (merged->bias.defined()) {
    plain = plain + merged->bias;
  } else if (linear.bias) {
    plain = plain + linear.bias->value();
  }
  require_finite(module, plain);
  return (hook.forward(linear, x, nullptr) - plain).abs().max().item<double>();
}

const Tensor& MergedWeights::probe(int64_t width) {
  constexpr int64_t kRows = 2;
  Tensor& drawn = probes_[width];
  if (!drawn.defined()) {
    RandomStream random(0, "merge probe");
    std::vector<double> numbers(static_cast<size_t>(kRows * width));
    for (double& number : numbers) number = random.normal();
    drawn = at::tensor(numbers, at::kFloat).view({kRows, -1});
  }
  return drawn;
}

void MergedWeights::untie_parted() {
  std::map<Parameter*, std::vector<std::string>> ends;
  for (const auto& [path, parameter] : parameters_) ends[parameter.get()].push_back(path);
  for (const auto& [parameter, paths] : ends) {
    if (paths.size() < 2 || !parted(paths)) continue;
    for (const std::string& path : paths) {
      if (auto* head = dynamic_cast<Linear*>(model_.find(module_of(path)))) head->untie();
    }
    model_.config["tie_word_embeddings"] = false;
  }
  module_.clear();
  for (const auto& [path, parameter] : model_.named_parameters(true)) parameters_[path] = parameter;
}

bool MergedWeights::parted(const std::vector<std::string>& ends) {
  const auto whole = [&](const std::string& path) {
    return std::any_of(stand_ins_.begin(), stand_ins_.end(),
                       [&](const TensorMap& of) { return of.contains(path); });
  };
  const auto changes = [&](const std::string& path) { return paths_.contains(path); };
  // What stands in for a tied tensor stands in for all of its ends.
  if (std::any_of(ends.begin(), ends.end(), whole) || std::none_of(ends.begin(), ends.end(), changes))
    return false;
  const Tensor first = value(ends[0]);
  return std::any_of(ends.begin() + 1, ends.end(),
                     [&](const std::string& path) { return !value(path).equal(first); });
}

void merge(const std::vector<WeightedAdapter>& adapters, Model& model) {
  const at::NoGradGuard no_grad;
  MergedWeights merged(adapters, model);
  merged.untie_parted();
  for (const auto& [path, parameter] : model.named_parameters(true)) {
    if (merged.paths().contains(path))
      parameter->base = merged.value(path).to(parameter->base.scalar_type()).contiguous();
  }
}

void merge(const Adapter& adapter, Model& model) { merge({{&adapter, 1}}, model); }

}  // namespace graft
