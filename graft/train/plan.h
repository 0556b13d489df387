// Which batches each optimizer step takes: a function of seed and position, so that a run can go on from two
// numbers.
#pragma once
#include <cstdint>
#include <vector>

#include "graft/train/train_config.h"

namespace graft {

/// The next batch to take.
struct Position {
  int64_t epoch = 0, batch = 0;
  bool operator==(const Position&) const = default;
};

class Plan {
 public:
  /// `lengths`: rows of each training sequence; at least one. Errors: UsageError (too little for one step).
  Plan(std::vector<int64_t> lengths, const TrainConfig& config);

  /// Optimizer steps of the whole run.
  int64_t total_steps() const { return total_steps_; }
  struct Step {
    std::vector<std::vector<int64_t>> batches;  // indices of sequences, one list a batch
    Position next;
    bool ends_epoch = false;
  };
  /// The step that begins at `position`; accumulation does not reach over an epoch's end.
  Step step(Position position);
  /// Epochs done at `position`, parts of one included.
  double epochs(Position position);

 private:
  const std::vector<std::vector<int64_t>>& batches_of(int64_t epoch);
  int64_t steps_of(int64_t epoch);
  std::vector<int64_t> lengths_;
  TrainConfig config_;
  int64_t total_steps_ = 0;
  int64_t cached_epoch_ = -1;
  std::vector<std::vector<int64_t>> cached_;
};

}  // namespace graft
