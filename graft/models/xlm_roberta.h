// XLM-RoBERTa (Conneau et al. 2020): RoBERTa over a hundred languages. model_type "xlm-roberta".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kXlmRoberta;

}  // namespace graft
