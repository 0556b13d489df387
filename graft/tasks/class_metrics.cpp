#include "graft/tasks/class_metrics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/tasks/scores.h"

namespace graft {
namespace {

class ClassMetrics : public Metrics {
 public:
  explicit ClassMetrics(ClassMetricsConfig config) : config_(std::move(config)) {}

  void add(const TaskBatch& batch, const Tensor& logits) override {
    const Tensor values = logits.detach().to(at::kDouble).cpu();
    const Tensor labels = batch.labels.to(at::kDouble).cpu();
    const Tensor chosen = config_.regression ? values.flatten() : values.argmax(1).to(at::kDouble);
    const Tensor sure = config_.regression ? Tensor() : std::get<0>(at::softmax(values, 1).max(1));
    for (int64_t i = 0; i < labels.size(0); ++i) {
      const double label = labels[i].item<double>(), prediction = chosen[i].item<double>();
      Json row = {{"label", named(label)}, {"prediction", named(prediction)}};
      if (!config_.regression) row["probability"] = sure[i].item<double>();
      predictions_.push_back(std::move(row));
      if (unlabelled(label)) continue;
      labels_.push_back(label);
      values_.push_back(prediction);
    }
  }

  std::vector<std::pair<std::string, double>> values() const override {
    std::vector<std::pair<std::string, double>> out;
    if (labels_.empty()) return out;
    for (const std::string& name : config_.metrics) out.emplace_back(name, value(name));
    return out;
  }
  std::vector<Json> predictions() const override { return predictions_; }

 private:
  bool unlabelled(double label) const { return config_.regression ? std::isnan(label) : label < 0; }
  Json named(double value) const {
    if (unlabelled(value)) return nullptr;
    return config_.regression ? Json(value) : Json(config_.labels[static_cast<size_t>(value)]);
  }
  double value(const std::string& name) const {
    if (name == "pearson") return pearson(values_, labels_);
    if (name == "spearman") return spearman(values_, labels_);
    if (name == "mse") {
      double sum = 0;
      for (size_t i = 0; i < labels_.size(); ++i)
        sum += (labels_[i] - values_[i]) * (labels_[i] - values_[i]);
      return sum / static_cast<double>(labels_.size());
    }
    const std::vector<int64_t> labels(labels_.begin(), labels_.end());
    const std::vector<int64_t> predicted(values_.begin(), values_.end());
    if (name == "accuracy") return accuracy(labels, predicted);
    if (name == "matthews") return matthews(labels, predicted);
    if (name == "f1" && config_.labels.size() == 2) return f1(labels, predicted, 1);
    return f1_macro(labels, predicted);
  }

  ClassMetricsConfig config_;
  std::vector<double> labels_, values_;
  std::vector<Json> predictions_;
};

}  // namespace

std::unique_ptr<Metrics> class_metrics(ClassMetricsConfig config) {
  return std::make_unique<ClassMetrics>(std::move(config));
}

void settle_metrics(std::vector<std::string>& metrics, bool regression) {
  const std::vector<std::string> known =
      regression ? std::vector<std::string>{"pearson", "spearman", "mse"}
                 : std::vector<std::string>{"accuracy", "f1", "f1_macro", "matthews"};
  if (metrics.empty()) {
    metrics = regression ? std::vector<std::string>{"pearson", "spearman"}
                         : std::vector<std::string>{"accuracy", "f1"};
  }
  for (const std::string& name : metrics) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::string list;
      for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
      throw UsageError("task.metrics", "{}, expected some of {}{}", name, list, did_you_mean(name, known));
    }
  }
}

}  // namespace graft
