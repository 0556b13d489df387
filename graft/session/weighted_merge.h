// Adapters into the base's weights, each as much as its weight says.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// Every base tensor by every one of its paths (merging may untie what shared one tensor).
TensorMap base_tensors(const Model& model);
/// After a merge: each base tensor lies at before + weight · (now - before).
void apply_weight(Model& model, const TensorMap& before, double weight);
/// Merges `adapter` as much as `weight` says. Errors: UsageError where there is no merged form.
void merge_weighted(const Adapter& adapter, Model& model, double weight);

}  // namespace graft
