// LoRA-FA: LoRA whose A stays as it was drawn. Source: Zhang et al. 2023; the gradient's projection and the
// files are PEFT's (LORA).
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLoraFa;

}  // namespace graft
