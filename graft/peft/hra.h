// HRA: a chain of Householder reflections of a map's input. Source: Yuan et al. 2024; files: PEFT's HRA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kHra;

}  // namespace graft
