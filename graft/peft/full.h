// Methods without a map of their own: tensors of the base are trained themselves.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// Every tensor of the base, or those whose names a regular expression matches (`unfreeze`).
extern const TuningMethod kFull;
/// All biases, and new heads. Source: Ben Zaken et al. 2022.
extern const TuningMethod kBitfit;
/// All weights and biases of norms, and new heads.
extern const TuningMethod kLayerNorm;

}  // namespace graft
