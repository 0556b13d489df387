// OPT (Zhang et al. 2022): causal, learned positions, norm before or after the sum. model_type "opt".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kOpt;

}  // namespace graft
