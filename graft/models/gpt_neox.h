// GPT-NeoX and Pythia (Black et al. 2022): causal, rotary on a part of each head, sublayers side by side.
// model_type "gpt_neox".
#pragma once
#include "graft/models/model.h"

namespace graft {

extern const Family kGptNeox;

}  // namespace graft
