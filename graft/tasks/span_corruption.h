// Spans of plain text, hidden behind sentinels and written by the decoder: T5's pre-training (Raffel et al.
// 2020).
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kSpanCorruption;

}  // namespace graft
