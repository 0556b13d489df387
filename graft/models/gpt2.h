// GPT-2 (Radford et al. 2019): causal, pre-norm, learned positions, fused projections stored transposed.
// model_type "gpt2".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kGpt2;

}  // namespace graft
