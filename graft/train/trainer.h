// The training loop: forward, loss, backward, clip, step, evaluate, save. It knows no method, task or family.
#pragma once
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <vector>

#include "graft/base/random.h"
#include "graft/peft/adapter.h"
#include "graft/tasks/task.h"
#include "graft/train/evaluate.h"
#include "graft/train/optimizer.h"
#include "graft/train/plan.h"
#include "graft/train/state.h"
#include "graft/train/train_config.h"

namespace graft {

/// What is trained, on what. The adapter is attached to the model.
struct TrainingSet {
  Model& model;
  Adapter& adapter;
  const Task& task;
  const std::vector<Features>& train;
  const std::vector<Features>& validation;  // empty: no evaluation
};

/// One optimizer step, as progress and logs show it.
struct StepReport {
  int64_t step = 0, total_steps = 0;
  double epoch = 0, loss = 0, learning_rate = 0, gradient_norm = 0;
  int64_t tokens = 0;  // useful tokens of this step
  double seconds = 0;  // of this step, without evaluation and saving
  std::optional<Evaluation> evaluation;
};

/// What a program does at the loop's events; each may be empty.
struct TrainEvents {
  std::function<void(const StepReport&)> on_step;  // before a checkpoint of the same step is saved
  std::function<void(const std::filesystem::path&)> on_checkpoint;
  std::function<bool()> stop;  // true: save a checkpoint and return
};

enum class TrainEnd { finished, stopped_early, interrupted };

struct TrainOutcome {
  TrainEnd end = TrainEnd::finished;
  int64_t steps = 0, best_step = 0;
  Json metrics = nullptr;  // at best_step, "loss" among them; null where nothing was evaluated
};

class Trainer {
 public:
  /// Checkpoints go to `checkpoints`; empty: none are saved. Errors: UsageError, DataError.
  Trainer(TrainingSet set, const TrainConfig& config, std::filesystem::path checkpoints);

  int64_t total_steps() const { return plan_.total_steps(); }
  int64_t step() const { return state_.step; }
  /// So many of the model's first blocks compute their activations anew in the backward pass; 0 at first.
  /// Changes no bit of any result.
  void recompute(int64_t blocks) { recomputed_ = blocks; }
  /// The most bytes of large tensors that the gradients of one batch take beside what is there; changes
  /// nothing. 0 where tensor memory is not kept.
  int64_t measure_bytes(const std::vector<int64_t>& indices, int64_t recomputed);
  /// Bytes of the optimizer's state.
  int64_t state_bytes() const { return optimizer_.state_bytes(); }
  /// Goes on from a checkpoint. Errors: DataError where it is another run's.
  void resume(const std::filesystem::path& checkpoint);
  /// Trains to the end; then the adapter's tensors hold the best state (the last one where nothing was
  /// evaluated), unless interrupted. Errors: DataError (a loss that is not finite; disk full).
  TrainOutcome run(const TrainEvents& events);

 private:
  /// The batches of one optimizer step, ready to compute.
  struct Work {
    std::vector<TaskBatch> batches;
    int64_t label_units = 0, tokens = 0;
    double epochs = 0;  // done after this step
    Position next;
    bool ends_epoch = false;
  };
  Work collate(Position position);
  StepReport train_step(const Work& work);
  double backward(const Work& work);
  void evaluate_and_rank(StepReport& report);
  void save(const TrainEvents& events);
  bool due(int64_t every, const Work& work) const;
  std::string metric() const;

  TrainingSet set_;
  TrainConfig config_;
  std::filesystem::path checkpoints_;
  Plan plan_;
  Optimizer optimizer_;
  RandomStream dropout_;
  TrainState state_;
  int64_t recomputed_ = 0;
};

}  // namespace graft
