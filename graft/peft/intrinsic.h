// Intrinsic dimension: all tensors of a model moved by few trained numbers through a fixed random map.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// θ^D = θ0^D + P θ^d over all parameters as one vector. Source: Li et al. 2018.
extern const TuningMethod kDid;
/// W_i = W0_i + λ_i P_i θ for each tensor; θ and the m factors λ are d numbers. Source: Aghajanyan et al.
/// 2020.
extern const TuningMethod kSaid;

}  // namespace graft
