// What a training run would do: what is trained, how much, how long, in how much memory.
#pragma once
#include "graft/session/experiment.h"
#include "graft/session/train_run.h"
#include "graft/train/trainer.h"

namespace graft {

/// Bytes of the base, of what is trained (values, gradients, moments, the best state), and of a step's
/// activations; an estimate.
Json memory_estimate(const Experiment& experiment, const Adapter& adapter);

RunReport dry_run_report(const Experiment& experiment, const Adapter& adapter, const Trainer& trainer);

}  // namespace graft
