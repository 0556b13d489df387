// Mistral (Jiang et al. 2023): LLaMA with a sliding window. model_type "mistral".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kMistral;

}  // namespace graft
