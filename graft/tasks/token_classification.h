// A class for each word: names of persons, places, parts of speech.
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kTokenClassification;

}  // namespace graft
