// What tasks with a head over the vocabulary share: targets row by row, loss, metrics.
#pragma once
#include <memory>
#include <vector>

#include "graft/tasks/task.h"

namespace graft {

constexpr int64_t kNoLabel = -100;

/// Which row predicts a label: the one before it (causal), or the label's own (masked).
enum class Prediction { next, same };

/// `labels` [T], one a row, kNoLabel counts nothing → batch.rows, batch.labels and label_units. A label of a
/// sequence's first row is never predicted by the row before it.
void set_token_labels(TaskBatch& batch, const std::vector<int64_t>& labels, Prediction prediction);

/// The sum of the labels' negative logarithms of probability. With gradients on, logits stay undefined; else
/// they are [N, 2]: each label's loss, and whether it was the likeliest token.
Task::Result token_loss(Model& model, const Batch& prepared, const TaskBatch& batch);

/// perplexity, accuracy.
std::unique_ptr<Metrics> token_metrics();
std::vector<std::string> token_metric_names();
/// Perplexity is the only one of them that is better when smaller.
bool token_metric_is_larger_better(const std::string& metric);

/// What every task with a head over the vocabulary answers alike: no classes, this loss, these metrics.
class TokenTask : public Task {
 public:
  std::vector<std::string> label_names() const override { return {}; }
  int64_t num_labels() const override { return 0; }
  std::string problem_type() const override { return ""; }
  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    return token_loss(model, prepared, batch);
  }
  std::unique_ptr<Metrics> metrics() const override { return token_metrics(); }
  std::vector<std::string> metric_names() const override { return token_metric_names(); }
  bool larger_is_better(const std::string& metric) const override {
    return token_metric_is_larger_better(metric);
  }
};

/// Packs `features[i]` for i in `indices`, each row's label read from the row before it; `labels`: where a
/// sequence's labels stand (its own ids for plain text).
TaskBatch next_token_batch(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                           std::vector<int64_t> Features::*labels);

}  // namespace graft
