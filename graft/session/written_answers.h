// What a model writes for a split, judged by the task.
#pragma once
#include "graft/session/experiment.h"
#include "graft/train/evaluate.h"

namespace graft {

/// Loss and metrics of a split; where the task judges written answers, also what it says of greedy ones,
/// whose predictions replace the others. `adapter` (nullptr: none) is attached already.
Evaluation evaluate_split(const Experiment& experiment, const Adapter* adapter, Split split);

}  // namespace graft
