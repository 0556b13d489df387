// BOFT: rotations of blocks, mixed by butterfly permutations, and output scales. Source: Liu et al. 2024;
// files: PEFT's BOFT.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kBoft;

}  // namespace graft
