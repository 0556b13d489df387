// BERT (Devlin et al. 2019): bidirectional, post-norm, learned positions. model_type "bert".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kBert;

}  // namespace graft
