// LN tuning: the norms' own weights and biases are trained. Source: Qi et al. 2022; files: PEFT's LN_TUNING.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLnTuning;

}  // namespace graft
