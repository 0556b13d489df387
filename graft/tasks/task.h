// What an example means: features, loss, metrics. A task knows models (through their heads) and never
// methods.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "graft/data/source.h"
#include "graft/models/model.h"
#include "graft/text/tokenizer.h"

namespace graft {

/// One sequence ready for the model.
struct Features {
  std::vector<int64_t> input_ids;
  std::vector<int64_t> token_type_ids;  // empty: zeros
  std::vector<int64_t>
      labels;  // per row, -100 counts nothing (token tasks; causal LM: the row's own id, shifted in the loss)
  double target = 0;    // per sequence (class index, or score); not a number: unlabelled
  int64_t example = 0;  // index of the example it came from
};

/// Several sequences packed, with what the loss needs.
struct TaskBatch {
  Batch batch;
  Tensor labels;  // sequence tasks: [B] int64 or float32. Token tasks: [N] int64, one for each of batch.rows
  int64_t label_units = 0;  // what the loss is divided by: labelled tokens, or sequences
  int64_t tokens = 0;       // useful tokens: rows of the data
};

/// Predictions and labels of an evaluated split, gathered batch by batch.
class Metrics {
 public:
  virtual ~Metrics() = default;
  virtual void add(const TaskBatch& batch, const Tensor& logits) = 0;
  /// Name → value, "loss" not among them.
  virtual std::vector<std::pair<std::string, double>> values() const = 0;
  /// One JSON object an evaluated sequence ({"label": …, "prediction": …}), in order; empty for language
  /// models.
  virtual std::vector<Json> predictions() const = 0;
};

class Task {
 public:
  virtual ~Task() = default;
  virtual HeadKind head() const = 0;
  virtual std::vector<std::string> label_names() const = 0;  // empty: no classes
  virtual int64_t num_labels() const = 0;                    // 0: no such head
  /// Negative ids in a sequence are rows of a prompt: -1 the first, -2 the second … What each starts as: a
  /// token's id, or -1 for nothing. Empty: the task has none.
  virtual std::vector<int64_t> pseudo_tokens() const { return {}; }
  virtual std::string problem_type() const = 0;  // "", "regression", "single_label_classification"
  /// One split's examples → sequences (plain text: blocks), in order. Errors: DataError with the example's
  /// file and line.
  virtual std::vector<Features> features(const std::vector<Example>& examples) const = 0;
  /// Packs `features[i]` for i in `indices`; `batch.rows` are the rows that the loss reads. Draws (masks) are
  /// a function of `epoch` and the example.
  virtual TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                            const Model& model, int64_t epoch) const = 0;
  /// The SUM of the losses over the batch's label units (divide by the step's total), float32 scalar; logits
  /// as the metrics want them (undefined where gradients are on and no metric is wanted).
  struct Result {
    Tensor loss_sum, logits;
  };
  virtual Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const = 0;
  virtual std::unique_ptr<Metrics> metrics() const = 0;
  /// What values() of its metrics will name.
  virtual std::vector<std::string> metric_names() const { return {}; }
  virtual std::string default_metric() const = 0;  // what early stopping and the best checkpoint look at
  virtual bool larger_is_better(const std::string& metric) const = 0;
  /// Every key of the recipe's `task:` part, found ones (labels) included; reading it back makes the same
  /// task.
  virtual Json config() const { return Json::object(); }
};

}  // namespace graft
