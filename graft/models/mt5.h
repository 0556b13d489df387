// mT5 (Xue et al. 2021): T5 v1.1 over many languages. model_type "mt5".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kMt5;

}  // namespace graft
