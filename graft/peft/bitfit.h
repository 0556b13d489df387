// BitFit: biases alone, and new heads. Source: Ben Zaken et al. 2022.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kBitfit;

}  // namespace graft
