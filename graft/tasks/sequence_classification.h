// One text or a pair of texts → a class or a score.
#pragma once
#include <string>
#include <vector>

#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kSequenceClassification;

}  // namespace graft
