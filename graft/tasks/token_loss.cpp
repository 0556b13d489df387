#include "graft/tasks/token_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/tasks/packing.h"

namespace graft {
namespace {

/// Logits that are held at once where no gradient needs them: 64 MB of float32.
constexpr int64_t kLogitsAtOnce = int64_t{1} << 24;

class TokenMetrics : public Metrics {
 public:
  void add(const TaskBatch&, const Tensor& logits) override {
    const Tensor sums = logits.sum(0, false, at::kDouble);
    loss_ += sums[0].item<double>();
    correct_ += sums[1].item<double>();
    count_ += logits.size(0);
  }
  std::vector<std::pair<std::string, double>> values() const override {
    const auto count = static_cast<double>(std::max<int64_t>(1, count_));
    return {{"perplexity", std::exp(loss_ / count)}, {"accuracy", correct_ / count}};
  }
  std::vector<Json> predictions() const override { return {}; }

 private:
  double loss_ = 0, correct_ = 0;
  int64_t count_ = 0;
};

}  // namespace

void set_token_labels(TaskBatch& batch, const std::vector<int64_t>& labels, Prediction prediction) {
  const Layout& layout = batch.batch.layout;
  if (static_cast<int64_t>(labels.size()) != layout.rows())
    throw InternalError("labels", "{} labels for {} rows", labels.size(), layout.rows());
  std::vector<int64_t> rows, targets;
  for (int64_t b = 0; b < layout.sequences(); ++b) {
    const int64_t begin = layout.offsets[static_cast<size_t>(b)];
    const int64_t end = layout.offsets[static_cast<size_t>(b) + 1];
    const int64_t shift = prediction == Prediction::next ? 1 : 0;
    for (int64_t row = begin; row + shift < end; ++row) {
      const int64_t label = labels[static_cast<size_t>(row + shift)];
      if (label == kNoLabel) continue;
      rows.push_back(row);
      targets.push_back(label);
    }
  }
  batch.batch.rows = at::tensor(rows, at::kLong);
  batch.labels = at::tensor(targets, at::kLong);
  batch.label_units = static_cast<int64_t>(targets.size());
}

TaskBatch next_token_batch(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                           std::vector<int64_t> Features::*labels) {
  TaskBatch out = pack(features, indices);
  std::vector<int64_t> all;
  for (const int64_t index : indices) {
    const auto& one = features[static_cast<size_t>(index)].*labels;
    all.insert(all.end(), one.begin(), one.end());
  }
  set_token_labels(out, all, Prediction::next);
  return out;
}

Task::Result token_loss(Model& model, const Batch& prepared, const TaskBatch& batch) {
  const Tensor hidden = model.run(prepared);
  if (at::GradMode::is_enabled()) return {model.vocabulary_loss(hidden, batch.labels, prepared), Tensor()};
  const int64_t chunk = std::max<int64_t>(1, kLogitsAtOnce / std::max<int64_t>(1, model.info().vocab_size));
  std::vector<Tensor> parts;
  for (int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
    const int64_t end = std::min(begin + chunk, hidden.size(0));
    const Tensor labels = batch.labels.slice(0, begin, end);
    const Tensor logits = model.logits(hidden.slice(0, begin, end), prepared).to(at::kFloat);
    const Tensor of_labels = logits.gather(1, labels.unsqueeze(1)).squeeze(1);
    const Tensor losses = logits.logsumexp(1) - of_labels;
    parts.push_back(at::stack({losses, (logits.argmax(1) == labels).to(at::kFloat)}, 1));
  }
  const Tensor scores = parts.empty() ? at::zeros({0, 2}) : at::cat(parts);
  return {scores.select(1, 0).sum(), scores};
}

std::unique_ptr<Metrics> token_metrics() { return std::make_unique<TokenMetrics>(); }

std::vector<std::string> token_metric_names() { return {"perplexity", "accuracy"}; }

bool token_metric_is_larger_better(const std::string& metric) {
  return metric != "perplexity" && metric != "loss";
}

}  // namespace graft
