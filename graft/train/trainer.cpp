#include "graft/train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "graft/base/error.h"
#include "graft/nn/recompute.h"
#include "graft/ops/tensor_memory.h"
#include "graft/train/schedule.h"

namespace graft {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TensorMap copies(const TensorMap& tensors) {
  TensorMap out;
  for (const auto& [key, tensor] : tensors) out[key] = tensor.detach().clone();
  return out;
}

}  // namespace

Trainer::Trainer(TrainingSet set, const TrainConfig& config, std::filesystem::path checkpoints)
    : set_(set),
      config_(config),
      checkpoints_(std::move(checkpoints)),
      plan_(lengths_of(set.train), config),
      optimizer_(trainable(set.adapter), config),
      dropout_(static_cast<uint64_t>(config.seed), "dropout") {
  if (optimizer_.trained().empty())
    throw UsageError("method", "nothing to train, expected at least one trained tensor");
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  state_ = load_checkpoint(checkpoint, optimizer_);
  copy_values(state_.method, set_.adapter.state, (checkpoint / "method.safetensors").string());
  dropout_.seek(state_.dropout_position);
}

Trainer::Work Trainer::collate(Position position) {
  const Plan::Step step = plan_.step(position);
  Work work;
  work.next = step.next;
  work.ends_epoch = step.ends_epoch;
  for (const std::vector<int64_t>& indices : step.batches) {
    TaskBatch batch = set_.task.collate(set_.train, indices, set_.model, position.epoch);
    work.label_units += batch.label_units;
    work.tokens += batch.tokens;
    work.batches.push_back(std::move(batch));
  }
  work.epochs = plan_.epochs(step.next);
  return work;
}

double Trainer::backward(const Work& work) {
  const RecomputeGuard guard(recomputed_);
  const auto units = static_cast<double>(std::max<int64_t>(1, work.label_units));
  double loss = 0;
  for (const TaskBatch& batch : work.batches) {
    Batch prepared = batch.batch;
    prepared.dropout = &dropout_;
    prepared = prepare_batch(&set_.adapter, set_.model, std::move(prepared));
    const Task::Result result = set_.task.evaluate(set_.model, prepared, batch);
    const Tensor mean = result.loss_sum / units;
    loss += mean.item<double>();
    if (mean.requires_grad()) mean.backward();
  }
  if (set_.adapter.auxiliary_loss) {
    const Tensor auxiliary = set_.adapter.auxiliary_loss();
    loss += auxiliary.item<double>();
    auxiliary.backward();
  }
  return loss;
}

int64_t Trainer::measure_bytes(const std::vector<int64_t>& indices, int64_t recomputed) {
  const RandomStream dropout = dropout_;
  const int64_t blocks = std::exchange(recomputed_, recomputed);
  Work work;
  work.batches.push_back(set_.task.collate(set_.train, indices, set_.model, 0));
  work.label_units = work.batches[0].label_units;
  const int64_t before = ops::tensor_memory().bytes;
  ops::reset_tensor_peak();
  backward(work);
  optimizer_.clear_gradients();
  dropout_ = dropout;
  recomputed_ = blocks;
  return ops::tensor_memory().peak - before;
}

StepReport Trainer::train_step(const Work& work) {
  StepReport report;
  report.step = state_.step + 1;
  report.total_steps = total_steps();
  report.epoch = work.epochs;
  report.tokens = work.tokens;
  report.loss = backward(work);
  report.gradient_norm = optimizer_.gradient_norm();
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
    throw DataError(
        "train",
        "step {}: loss {}, gradient norm {}, expected finite numbers; try a lower train.learning_rate",
        report.step, report.loss, report.gradient_norm);
  }
  report.learning_rate = config_.learning_rate * schedule_factor(config_, state_.step, total_steps());
  if (set_.adapter.adjust_gradients) set_.adapter.adjust_gradients();
  optimizer_.step(report.step, report.learning_rate, report.gradient_norm);
  if (set_.adapter.after_step) set_.adapter.after_step(report.step);
  optimizer_.clear_gradients();
  state_.step = report.step;
  state_.epoch = work.next.epoch;
  state_.batch = work.next.batch;
  state_.tokens += work.tokens;
  state_.dropout_position = dropout_.position();
  return report;
}

std::string Trainer::metric() const {
  return config_.metric.empty() ? set_.task.default_metric() : config_.metric;
}

void Trainer::evaluate_and_rank(StepReport& report) {
  const BatchOptions batching{.batch_size = config_.batch_size, .batch_tokens = config_.batch_tokens};
  report.evaluation = evaluate(set_.model, &set_.adapter, set_.task, set_.validation, batching);
  const double score = report.evaluation->value(metric());
  const bool larger = metric() != "loss" && set_.task.larger_is_better(metric());
  const bool better =
      !state_.best_score || (larger ? score > *state_.best_score : score < *state_.best_score);
  if (!better) {
    ++state_.evaluations_since_best;
    return;
  }
  state_.best_score = score;
  state_.best_step = report.step;
  state_.evaluations_since_best = 0;
  state_.best_metrics = report.evaluation->json();
  state_.best = copies(optimizer_.trained());
  state_.best_method = copies(set_.adapter.state);
}

bool Trainer::due(int64_t every, const Work& work) const {
  return state_.step == total_steps() || (every > 0 ? state_.step % every == 0 : work.ends_epoch);
}

void Trainer::save(const TrainEvents& events) {
  if (checkpoints_.empty()) return;
  state_.method = set_.adapter.state;
  const auto path = save_checkpoint(checkpoints_, state_, optimizer_, config_.keep);
  if (events.on_checkpoint) events.on_checkpoint(path);
}

TrainOutcome Trainer::run(const TrainEvents& events) {
  TrainOutcome outcome;
  if (state_.stopped_early) outcome.end = TrainEnd::stopped_early;
  std::future<Work> next;
  // The next step's batches are put together while this one computes.
  const auto prefetch = [&](Position position) {
    next = std::async(std::launch::async, [this, position] { return collate(position); });
  };
  if (state_.step < total_steps() && !state_.stopped_early) prefetch({state_.epoch, state_.batch});
  while (state_.step < total_steps() && !state_.stopped_early) {
    const double start = now();
    Work work = next.get();
    if (state_.step + 1 < total_steps()) prefetch(work.next);
    StepReport report = train_step(work);
    report.seconds = now() - start;
    // Also when stopping: a run that goes on from here must know what an uninterrupted one knows.
    if (!set_.validation.empty() && due(config_.evaluate_every, work)) {
      evaluate_and_rank(report);
      state_.stopped_early =
          config_.early_stopping > 0 && state_.evaluations_since_best >= config_.early_stopping;
      if (state_.stopped_early) outcome.end = TrainEnd::stopped_early;
    }
    if (events.on_step) events.on_step(report);
    const bool stop = events.stop && events.stop();
    if (stop || state_.stopped_early || due(config_.save_every, work)) save(events);
    if (stop && state_.step < total_steps()) {
      outcome.end = TrainEnd::interrupted;
      break;
    }
  }
  outcome.steps = state_.step;
  outcome.best_step = state_.best.empty() ? state_.step : state_.best_step;
  outcome.metrics = state_.best_metrics;
  if (outcome.end != TrainEnd::interrupted && !state_.best.empty()) {
    copy_values(state_.best, optimizer_.trained(), "the best state");
    copy_values(state_.best_method, set_.adapter.state, "the best state");
  }
  return outcome;
}

}  // namespace graft
