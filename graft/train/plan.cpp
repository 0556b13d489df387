#include "graft/train/plan.h"

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/data/order.h"

namespace graft {

Plan::Plan(std::vector<int64_t> lengths, const TrainConfig& config)
    : lengths_(std::move(lengths)), config_(config) {
  if (lengths_.empty()) throw DataError("data.train", "no sequences, expected at least one");
  if (config.steps > 0) {
    total_steps_ = config.steps;
    return;
  }
  const auto whole = static_cast<int64_t>(std::floor(config.epochs));
  for (int64_t epoch = 0; epoch < whole; ++epoch) total_steps_ += steps_of(epoch);
  const double part = config.epochs - static_cast<double>(whole);
  if (part > 0) total_steps_ += static_cast<int64_t>(std::ceil(part * static_cast<double>(steps_of(whole))));
}

const std::vector<std::vector<int64_t>>& Plan::batches_of(int64_t epoch) {
  if (epoch != cached_epoch_) {
    const BatchOptions options{.batch_size = config_.batch_size,
                               .batch_tokens = config_.batch_tokens,
                               .shuffle = config_.shuffle,
                               .group_by_length = config_.group_by_length};
    cached_ = epoch_batches(lengths_, options, static_cast<uint64_t>(config_.seed), epoch);
    cached_epoch_ = epoch;
  }
  return cached_;
}

int64_t Plan::steps_of(int64_t epoch) {
  const auto batches = static_cast<int64_t>(batches_of(epoch).size());
  return (batches + config_.gradient_accumulation_steps - 1) / config_.gradient_accumulation_steps;
}

Plan::Step Plan::step(Position position) {
  const auto& batches = batches_of(position.epoch);
  const auto count = static_cast<int64_t>(batches.size());
  const int64_t end = std::min(count, position.batch + config_.gradient_accumulation_steps);
  if (position.batch < 0 || position.batch >= count) {
    throw DataError("checkpoint",
                    "batch {} of epoch {}, expected below {}: the data or batch size is another",
                    position.batch, position.epoch, count);
  }
  Step step{.batches = {batches.begin() + position.batch, batches.begin() + end},
            .next = {position.epoch, end},
            .ends_epoch = end == count};
  if (step.ends_epoch) step.next = {position.epoch + 1, 0};
  return step;
}

double Plan::epochs(Position position) {
  if (position.batch == 0) return static_cast<double>(position.epoch);
  return static_cast<double>(position.epoch) +
         static_cast<double>(position.batch) / static_cast<double>(batches_of(position.epoch).size());
}

}  // namespace graft
