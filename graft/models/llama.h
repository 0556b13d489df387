// LLaMA (Touvron et al. 2023): causal, pre-norm, rotary positions, grouped keys, gated feed-forward.
// model_type "llama".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kLlama;

}  // namespace graft
