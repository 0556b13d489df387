// Loss and metrics of a split.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "graft/data/order.h"
#include "graft/peft/adapter.h"
#include "graft/tasks/task.h"

namespace graft {

struct Evaluation {
  double loss = 0;                                      // mean over the label units
  std::vector<std::pair<std::string, double>> metrics;  // the task's, without the loss
  std::vector<Json> predictions;  // one a sequence, in order; empty where the task has none
  int64_t tokens = 0;

  /// {"loss": …, metric: …}.
  Json json() const;
  /// A metric by name, or "loss". Errors: UsageError with the known names.
  double value(const std::string& metric) const;
};

/// `adapter` (nullptr: none) is attached already; only its input hook is used. `batching.shuffle` is taken as
/// false.
Evaluation evaluate(Model& model, const Adapter* adapter, const Task& task,
                    const std::vector<Features>& features, BatchOptions batching);

/// The batch as the adapter's input hook makes it; the batch itself where there is no such hook.
Batch prepare_batch(const Adapter* adapter, const Model& model, Batch batch);

/// The lengths of sequences in rows, as epoch_batches wants them.
std::vector<int64_t> lengths_of(const std::vector<Features>& features);

}  // namespace graft
