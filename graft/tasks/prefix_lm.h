// Plain text cut in two at random, the second part written by the decoder: LM adaptation (Raffel et al. 2020;
// Lester et al. 2021).
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kPrefixLm;

}  // namespace graft
