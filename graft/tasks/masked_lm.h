// Hidden tokens of plain text, guessed from both sides (Devlin et al. 2019).
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kMaskedLm;

}  // namespace graft
