// DeLoRA: a low-rank update of bounded norm. Source: Bini et al. 2025; files: PEFT's DELORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kDelora;

}  // namespace graft
