// RoBERTa (Liu et al. 2019): BERT with positions that count from behind the padding token's. model_type
// "roberta".
#pragma once
#include "graft/models/model.h"

namespace graft {

/// The network for config.json; `model_type` is the family's name. Errors: DataError.
std::unique_ptr<Model> new_roberta(const Json& config, const char* model_type, HeadKind head,
                                   int64_t num_labels);

extern const Family kRoberta;

}  // namespace graft
