// ALBERT (Lan et al. 2020): BERT whose blocks share their weights, with a narrower word embedding. model_type
// "albert".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kAlbert;

}  // namespace graft
