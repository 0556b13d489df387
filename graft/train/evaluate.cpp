#include "graft/train/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "graft/base/error.h"

namespace graft {

Json Evaluation::json() const {
  Json object = {{"loss", loss}};
  for (const auto& [name, value] : metrics) object[name] = value;
  return object;
}

double Evaluation::value(const std::string& metric) const {
  if (metric == "loss") return loss;
  std::vector<std::string> names{"loss"};
  for (const auto& [name, value] : metrics) {
    if (name == metric) return value;
    names.push_back(name);
  }
  throw UsageError("train.metric", "{}, expected one of {}{}", metric, fmt::join(names, ", "),
                   did_you_mean(metric, names));
}

Batch prepare_batch(const Adapter* adapter, const Model& model, Batch batch) {
  if (adapter) refresh_stand_ins(*adapter, model);
  if (adapter && adapter->input) return adapter->input->before(model, std::move(batch));
  return batch;
}

std::vector<int64_t> lengths_of(const std::vector<Features>& features) {
  std::vector<int64_t> lengths;
  lengths.reserve(features.size());
  for (const Features& sequence : features)
    lengths.push_back(static_cast<int64_t>(sequence.input_ids.size()));
  return lengths;
}

Evaluation evaluate(Model& model, const Adapter* adapter, const Task& task,
                    const std::vector<Features>& features, BatchOptions batching) {
  const at::NoGradGuard no_grad;
  batching.shuffle = batching.group_by_length = batching.drop_last = false;
  const std::unique_ptr<Metrics> metrics = task.metrics();
  Evaluation evaluation;
  double loss_sum = 0;
  int64_t label_units = 0;
  for (const std::vector<int64_t>& indices : epoch_batches(lengths_of(features), batching, 0, 0)) {
    const TaskBatch batch = task.collate(features, indices, model, 0);
    const Task::Result result = task.evaluate(model, prepare_batch(adapter, model, batch.batch), batch);
    metrics->add(batch, result.logits);
    loss_sum += result.loss_sum.item<double>();
    label_units += batch.label_units;
    evaluation.tokens += batch.tokens;
  }
  evaluation.loss = loss_sum / static_cast<double>(std::max<int64_t>(1, label_units));
  evaluation.metrics = metrics->values();
  evaluation.predictions = metrics->predictions();
  return evaluation;
}

}  // namespace graft
