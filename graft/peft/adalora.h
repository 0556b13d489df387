// AdaLoRA: a low-rank update as a singular value decomposition, whose rank is spread over the maps while
// training. Source: Zhang et al. 2023; files: PEFT's ADALORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kAdaLora;

}  // namespace graft
