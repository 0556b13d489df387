// The learning rate over the steps, as transformers defines its schedules.
#pragma once
#include "graft/train/train_config.h"

namespace graft {

/// Warm-up steps of a run of `total_steps`: warmup_steps, else ceil(warmup_ratio · total_steps).
int64_t warmup_steps(const TrainConfig& config, int64_t total_steps);

/// What the learning rate is multiplied by at optimizer step `step`, counted from 0: linear from 0 during the
/// warm-up, then constant 1, linear to 0 at `total_steps`, or half a cosine to 0.
double schedule_factor(const TrainConfig& config, int64_t step, int64_t total_steps);

}  // namespace graft
