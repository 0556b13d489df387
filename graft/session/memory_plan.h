// How much memory a run takes, and how many blocks compute their activations anew so that it fits.
#pragma once
#include "graft/session/experiment.h"
#include "graft/train/trainer.h"

namespace graft {

struct MemoryPlan {
  int64_t base = 0;     // the base's tensors
  int64_t trained = 0;  // what is trained: values, the optimizer's state, the best state; without gradients
  int64_t activations = 0;  // the largest step's activations and gradients
  int64_t total = 0;        // resident at the highest: these, packed weights, and the process itself
  int64_t recomputed = 0;   // so many blocks keep no activations

  Json json() const;
};

/// Bytes of "8GiB", "512 MB", "1000000". Errors: UsageError.
int64_t parse_bytes(const std::string& text, const std::string& path);

/// Runs one or two small batches of the training data forward and backward, measures what they take, and goes
/// on in proportion to the run's largest batch. train.checkpointing and train.memory decide how many blocks
/// are computed anew; where that many do not fit, it warns. Changes nothing of the run. Call
/// keep_tensor_memory before the model is loaded.
MemoryPlan plan_memory(const Experiment& experiment, const Adapter& adapter, Trainer& trainer);

}  // namespace graft
