// Plain text for a model that reads from left to right: each document is a sequence of its own, long ones are
// cut into blocks.
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kCausalLm;

}  // namespace graft
