// Prompt tuning: trained virtual tokens in front of the input. Source: Lester et al. 2021; files: PEFT's
// PROMPT_TUNING.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kPromptTuning;

}  // namespace graft
