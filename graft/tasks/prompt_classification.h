// Classes answered in words: a template with a blank, and which word stands for which class.
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kPromptClassification;

}  // namespace graft
