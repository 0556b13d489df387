#include "graft/peft/merged_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

void refuse_unmergeable(const Adapter& adapter) {
  if (adapter.input || !adapter.sublayers.empty()) {
    throw UsageError("merge",
                     "{} acts outside of the weights and has no merged form, expected another method",
                     adapter.method ? adapter.method->name : "this method");
  }
}

void require_finite(const std::string& path, const Tensor& values) {
  if (!values.isfinite().all().item<bool>())
    throw DataError("merge", "{} has values that are not finite, expected a sound adapter", path);
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

MergedWeights::MergedWeights(std::vector<WeightedAdapter> adapters, Model& model)
    : adapters_(std::move(adapters)), model_(model) {
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
  if (module != module_) make(module);
  const auto held = held_.find(path);
  if (held == held_.end()) return widened(parameters_.at(path)->base);
  return held->second;
}

void MergedWeights::make(const std::string& module) {
  const at::NoGradGuard no_grad;
  held_.clear();
  module_ = module;
  for (const char* name : {".weight", ".bias"}) {
    const std::string path = module + name;
    if (paths_.contains(path)) held_[path] = widened(parameters_.at(path)->base);
  }
  for (size_t i = 0; i < adapters_.size(); ++i) apply(i, module);
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
    apply_linear(dynamic_cast<Linear&>(*model_.find(module)), module, *hook, next);
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
  for (auto& [path, value] : held_) {
    value =
        part.weight == 1 ? widened(next.at(path)) : value + part.weight * (widened(next.at(path)) - value);
  }
}

void MergedWeights::apply_linear(Linear& linear, const std::string& module, LinearHook& hook,
                                 TensorMap& values) {
  const std::optional<Affine> merged = hook.merged(linear);
  if (!merged) fail_without_form(module);
  if (merged->bias.defined() && !linear.bias) {
    throw UsageError("merge", "{} has no bias to merge one into, expected a map with a bias", module);
  }
  compare(module, linear, hook, *merged);
  values[module + ".weight"] = merged->weight;
  if (merged->bias.defined()) values[module + ".bias"] = merged->bias;
}

void MergedWeights::compare(const std::string& module, Linear& linear, LinearHook& hook,
                            const Affine& merged) {
  constexpr int64_t kRows = 2;
  RandomStream random(0, "merge probe");
  std::vector<double> drawn(static_cast<size_t>(kRows * linear.in()));
  for (double& number : drawn) number = random.normal();
  const Tensor x = at::tensor(drawn, merged.weight.options()).view({kRows, -1});
  Tensor plain = at::matmul(x, merged.weight.t());
  if (merged.bias.defined()) {
    plain = plain + merged.bias;
  } else if (linear.bias) {
    plain = plain + linear.bias->value();
  }
  require_finite(module, plain);
  const Tensor difference = hook.forward(linear, x, nullptr) - plain;
  largest_difference_ = std::max(largest_difference_, difference.abs().max().item<double>());
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
