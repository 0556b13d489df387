#include "graft/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "graft/base/error.h"

namespace graft {

int64_t warmup_steps(const TrainConfig& config, int64_t total_steps) {
  if (config.warmup_steps > 0) return config.warmup_steps;
  return static_cast<int64_t>(std::ceil(config.warmup_ratio * static_cast<double>(total_steps)));
}

double schedule_factor(const TrainConfig& config, int64_t step, int64_t total_steps) {
  const int64_t warmup = warmup_steps(config, total_steps);
  if (step < warmup) return static_cast<double>(step) / static_cast<double>(warmup);
  if (config.schedule == "constant") return 1;
  const double progress =
      static_cast<double>(step - warmup) / static_cast<double>(std::max<int64_t>(1, total_steps - warmup));
  if (config.schedule == "linear") return std::max(0.0, 1 - progress);
  if (config.schedule == "cosine") return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
  throw UsageError("train.schedule", "{}, expected constant, linear or cosine", config.schedule);
}

}  // namespace graft
