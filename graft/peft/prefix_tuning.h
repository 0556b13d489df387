// Prefix tuning: trained keys and values in front of every layer's. Source: Li and Liang 2021 (P-tuning v2:
// Liu et al. 2022); files: PEFT's PREFIX_TUNING.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kPrefixTuning;

}  // namespace graft
