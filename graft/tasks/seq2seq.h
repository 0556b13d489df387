// A text to a text with an encoder-decoder: summaries, translations, answers in words (Raffel et al. 2020).
#pragma once
#include "graft/tasks/registry.h"

namespace graft {

extern const TaskKind kSeq2Seq;

}  // namespace graft
