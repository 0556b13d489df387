// Instructions and conversations put into a chat template; the loss counts the answers only.
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kInstruction;

}  // namespace graft
