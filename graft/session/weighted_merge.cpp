#include "graft/session/weighted_merge.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace graft {

TensorMap base_tensors(const Model& model) {
  TensorMap out;
  for (const auto& [path, parameter] : model.named_parameters(true)) out[path] = parameter->base;
  return out;
}

void apply_weight(Model& model, const TensorMap& before, double weight) {
  if (weight == 1) return;
  const at::NoGradGuard no_grad;
  for (const auto& [path, parameter] : model.named_parameters()) {
    const Tensor& old = before.at(path);
    if (parameter->base.is_same(old)) continue;
    const Tensor wide = old.to(at::kFloat);
    parameter->base = (wide + weight * (parameter->base.to(at::kFloat) - wide)).to(old.scalar_type());
  }
}

void merge_weighted(const Adapter& adapter, Model& model, double weight) {
  const TensorMap before = base_tensors(model);
  merge(adapter, model);
  apply_weight(model, before, weight);
}

}  // namespace graft
