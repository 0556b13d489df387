// Qwen3 (Qwen team 2025): LLaMA with norms on the heads of query and key. model_type "qwen3".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kQwen3;

}  // namespace graft
