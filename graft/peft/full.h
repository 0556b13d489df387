// Methods without a map of their own: tensors of the base are trained themselves.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// Every tensor of the base, or those whose names a regular expression matches (`unfreeze`).
extern const TuningMethod kFull;
/// All weights and biases of norms, and new heads.
extern const TuningMethod kLayerNorm;
/// The new head alone: what a linear probe trains.
extern const TuningMethod kHead;

}  // namespace graft
