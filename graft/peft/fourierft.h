// FourierFT: a few entries of an update's spectrum. Source: Gao et al. 2024; files: PEFT's FOURIERFT.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kFourierFt;

/// The first n of torch's CPU randperm(count) from this seed: what PEFT draws.
Tensor first_of_permutation(int64_t count, int64_t n, int64_t seed);

}  // namespace graft
