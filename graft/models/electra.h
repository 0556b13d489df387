// ELECTRA (Clark et al. 2020): BERT with a narrower word embedding and no pooler. model_type "electra".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kElectra;

}  // namespace graft
