// LoRA: a low-rank update beside a frozen map. Source: Hu et al. 2021; files: PEFT's LORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLora;

}  // namespace graft
