// What a training run would do: what is trained, how much, how long, in how much memory.
#pragma once
#include "graft/session/experiment.h"
#include "graft/session/train_run.h"
#include "graft/train/trainer.h"

namespace graft {

RunReport dry_run_report(const Experiment& experiment, const Adapter& adapter, Trainer& trainer);

/// Numbers in the base's tensors, tied ones once.
int64_t total_parameters(const Model& model);

}  // namespace graft
