// LoHa: the Hadamard product of two low-rank maps. Source: Hyeon-Woo et al. 2022; files: PEFT's LOHA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLoha;

}  // namespace graft
