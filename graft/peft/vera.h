// VeRA: shared random low-rank maps, trained scales. Source: Kopiczko et al. 2024; files: PEFT's VERA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kVera;

/// PEFT's shared maps from their seed: A [r, in], then B [out, r], drawn by torch's CPU generator.
std::pair<Tensor, Tensor> vera_projections(int64_t seed, int64_t r, int64_t in, int64_t out);

}  // namespace graft
