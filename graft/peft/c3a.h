// C3A: an update of circulant blocks, each of one row. Source: Chen et al. 2024; files: PEFT's C3A.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kC3a;

}  // namespace graft
