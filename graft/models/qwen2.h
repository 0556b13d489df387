// Qwen2 and 2.5 (Qwen team 2024): LLaMA with biases on query, key and value. model_type "qwen2".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kQwen2;

}  // namespace graft
