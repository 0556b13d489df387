// Into the base tensors, for good.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/peft/adapter.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

/// What a parameter becomes, by the module that says so.
using NewValues = std::map<std::string, Tensor>;  // by path of the parameter under that module

void refuse_unmergeable(const Adapter& adapter) {
  if (adapter.input || !adapter.sublayers.empty()) {
    throw UsageError("merge",
                     "{} acts outside of the weights and has no merged form, expected another method",
                     adapter.method ? adapter.method->name : "this method");
  }
}

void merge_linear(const std::string& path, const Linear& linear, const LinearHook& hook, NewValues& values) {
  const std::optional<Affine> merged = hook.merged(linear);
  if (!merged) throw UsageError("merge", "{}: this method has no merged form, expected another method", path);
  if (merged->bias.defined() && !linear.bias) {
    throw UsageError("merge", "{} has no bias to merge one into, expected a map with a bias", path);
  }
  values[path + ".weight"] = merged->weight;
  if (merged->bias.defined()) values[path + ".bias"] = merged->bias;
}

NewValues new_values(const Adapter& adapter, Model& model) {
  NewValues values;
  for (const auto& [path, parameter] : model.named_parameters()) {
    if (parameter->stand_in.defined()) values[path] = parameter->stand_in;
  }
  for (const auto& [path, hook] : adapter.linears) {
    merge_linear(path, dynamic_cast<Linear&>(*model.find(path)), *hook, values);
  }
  for (const auto& [path, hook] : adapter.embeddings) {
    const std::optional<Tensor> merged = hook->merged(dynamic_cast<Embedding&>(*model.find(path)));
    if (!merged)
      throw UsageError("merge", "{}: this method has no merged form, expected another method", path);
    values[path + ".weight"] = *merged;
  }
  for (auto& [path, value] : values) {
    if (!value.isfinite().all().item<bool>()) {
      throw DataError("merge", "{} has values that are not finite, expected a sound adapter", path);
    }
  }
  return values;
}

/// True where some, but not all, ends of a tied tensor change, or they change differently.
bool parts(const std::vector<std::string>& paths, const NewValues& values) {
  const auto first = values.find(paths[0]);
  for (const std::string& path : paths) {
    const auto found = values.find(path);
    if ((found == values.end()) != (first == values.end())) return true;
    if (found != values.end() && !found->second.equal(first->second)) return true;
  }
  return false;
}

void untie(Model& model, const std::string& path) {
  if (auto* head = dynamic_cast<Linear*>(model.find(path.substr(0, path.rfind('.'))))) head->untie();
}

}  // namespace

void merge(const Adapter& adapter, Model& model) {
  refuse_unmergeable(adapter);
  const at::NoGradGuard no_grad;
  attach(adapter, model);
  const NewValues values = new_values(adapter, model);
  detach(model);
  std::map<Parameter*, std::vector<std::string>> ends;
  for (const auto& [path, parameter] : model.named_parameters(true)) ends[parameter.get()].push_back(path);
  for (const auto& [path, parameter] : model.named_parameters()) {
    const std::vector<std::string>& paths = ends[parameter.get()];
    const bool hooked = paths.size() > 1 && adapter.stand_ins.count(path) == 0;
    if (hooked && parts(paths, values)) {
      for (const std::string& end : paths) untie(model, end);
      model.config["tie_word_embeddings"] = false;
    }
  }
  for (const auto& [path, parameter] : model.named_parameters(true)) {
    const auto found = values.find(path);
    if (found != values.end()) parameter->base = found->second.to(parameter->base.scalar_type()).contiguous();
  }
}

}  // namespace graft
