// P-tuning: virtual tokens that a small network makes. Source: Liu et al. 2021; files: PEFT's P_TUNING.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kPTuning;

}  // namespace graft
