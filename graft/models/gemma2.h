// Gemma 2 (Gemma team 2024): norms on both sides of a sublayer, bounded scores, a window in every other
// layer. model_type "gemma2".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kGemma2;

}  // namespace graft
