// Metrics of tasks that give each sequence a class or a score.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "graft/tasks/task.h"

namespace graft {

struct ClassMetricsConfig {
  std::vector<std::string> labels, metrics;
  bool regression = false;
};
/// Reads logits [B, labels] ([B, 1] for scores) and the batch's labels [B].
std::unique_ptr<Metrics> class_metrics(ClassMetricsConfig config);

/// Fills in the metrics where there are none: accuracy and f1, or pearson and spearman. Errors: UsageError
/// for an unknown one.
void settle_metrics(std::vector<std::string>& metrics, bool regression);

}  // namespace graft
