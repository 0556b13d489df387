// Phi-3 (Abdin et al. 2024): LLaMA with fused projections. model_type "phi3".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kPhi3;

}  // namespace graft
