// DeBERTa v2 and v3 (He et al. 2021): attention over content and relative position apart. model_type
// "deberta-v2".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kDebertaV2;

}  // namespace graft
