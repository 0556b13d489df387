// SHiRA: single entries of a weight, chosen at random, are trained. Source: Bhardwaj et al. 2024; files:
// PEFT's SHIRA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kShira;

}  // namespace graft
