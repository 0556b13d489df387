// HiRA: the weight times a low-rank matrix, number by number. Source: Huang et al. 2025; files: PEFT's HIRA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kHira;

}  // namespace graft
