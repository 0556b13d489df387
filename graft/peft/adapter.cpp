#include "graft/peft/adapter.h"

#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"

namespace graft {
namespace {

template <class Kind, class Hooks>
void find_missing(const Hooks& hooks, Model& model, std::string& missing) {
  for (const auto& [path, hook] : hooks) {
    if (dynamic_cast<Kind*>(model.find(path))) continue;
    missing += (missing.empty() ? "" : ", ") + path;
  }
}

template <class Kind, class Hooks>
void place(const Hooks& hooks, Model& model) {
  for (const auto& [path, hook] : hooks) dynamic_cast<Kind&>(*model.find(path)).hook = hook;
}

}  // namespace

TensorMap trainable(const Adapter& adapter) { return adapter.trained; }

int64_t parameter_count(const TensorMap& tensors) {
  int64_t count = 0;
  for (const auto& [key, tensor] : tensors) count += tensor.numel();
  return count;
}

void attach(const Adapter& adapter, Model& model) {
  std::map<std::string, std::shared_ptr<Parameter>> parameters;
  for (const auto& [path, parameter] : model.named_parameters(true)) parameters[path] = parameter;
  std::string missing;
  find_missing<Linear>(adapter.linears, model, missing);
  find_missing<Embedding>(adapter.embeddings, model, missing);
  find_missing<Sublayer>(adapter.sublayers, model, missing);
  for (const auto& [path, tensor] : adapter.stand_ins) {
    const auto found = parameters.find(path);
    const bool fits = found != parameters.end() && tensor.sizes().vec() == found->second->shape;
    if (!fits) missing += (missing.empty() ? "" : ", ") + path;
  }
  if (!missing.empty()) {
    throw DataError("adapter", "this model has no {}, expected the model that the adapter was made for",
                    missing);
  }
  detach(model);
  place<Linear>(adapter.linears, model);
  place<Embedding>(adapter.embeddings, model);
  place<Sublayer>(adapter.sublayers, model);
  for (const auto& [path, tensor] : adapter.stand_ins) parameters[path]->stand_in = tensor;
  const at::NoGradGuard no_grad;
  refresh_stand_ins(adapter, model);
}

void refresh_stand_ins(const Adapter& adapter, const Model& model) {
  if (!adapter.compute_stand_ins) return;
  const auto parameters = model.named_parameters(true);
  const auto place = [&](const TensorMap& tensors) {
    for (const auto& [path, parameter] : parameters) {
      if (const auto found = tensors.find(path); found != tensors.end()) parameter->stand_in = found->second;
    }
  };
  if (at::GradMode::is_enabled()) place(adapter.stand_ins);  // lets go of the last pass's tensors
  place(adapter.compute_stand_ins(adapter.stand_ins));
}

void detach(Model& model) {
  for (const auto& [path, module] : model.named_modules()) {
    if (auto* linear = dynamic_cast<Linear*>(module)) linear->hook.reset();
    if (auto* embedding = dynamic_cast<Embedding*>(module)) embedding->hook.reset();
    if (auto* sublayer = dynamic_cast<Sublayer*>(module)) sublayer->hook.reset();
  }
  for (const auto& [path, parameter] : model.named_parameters()) parameter->stand_in = Tensor();
}

}  // namespace graft
