// Where training stands, and its checkpoints: all that is needed to go on as if it had never stopped.
#pragma once
#include <filesystem>
#include <optional>
#include <vector>

#include "graft/base/json.h"
#include "graft/train/optimizer.h"

namespace graft {

struct TrainState {
  int64_t step = 0;               // optimizer steps done
  int64_t epoch = 0, batch = 0;   // the next batch to take
  uint64_t dropout_position = 0;  // of the dropout stream
  int64_t tokens = 0;             // useful tokens seen
  int64_t best_step = 0;          // 0: none yet
  std::optional<double> best_score;
  int64_t evaluations_since_best = 0;
  bool stopped_early = false;
  Json best_metrics = nullptr;    // of the evaluation at best_step
  TensorMap best;                 // the trained tensors at best_step; empty where nothing was evaluated
  TensorMap method, best_method;  // the adapter's state (statistics), now and at best_step

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("step", self.step, "optimizer steps done");
    visit("epoch", self.epoch, "epoch of the next batch");
    visit("batch", self.batch, "number of the next batch in its epoch");
    visit("tokens", self.tokens, "useful tokens seen");
    visit("best_step", self.best_step, "step of the best evaluation; 0: none");
    visit("best_score", self.best_score, "its metric");
    visit("evaluations_since_best", self.evaluations_since_best, "evaluations without a better metric");
    visit("stopped_early", self.stopped_early, "early stopping has ended the run");
    visit("best_metrics", self.best_metrics, "metrics at best_step");
  }
};

/// Writes folder/step-N whole or not at all, then removes all but the newest `keep` checkpoints. → its path.
/// Errors: DataError.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder, const TrainState& state,
                                      Optimizer& optimizer, int64_t keep);

/// The newest whole checkpoint in `folder`; nothing where there is none.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& folder);

/// Removes everything in `folder` that is no checkpoint: what a killed writer left behind.
void remove_leftovers(const std::filesystem::path& folder);

/// Only the step of a checkpoint: its folder's N.
int64_t checkpoint_step(const std::filesystem::path& checkpoint);

/// Fills the optimizer's tensors (parameters and moments) in place. Errors: DataError (missing, misshapen, of
/// another adapter).
TrainState load_checkpoint(const std::filesystem::path& checkpoint, Optimizer& optimizer);

/// Copies values into the tensors of the same keys. Errors: DataError naming every key that is missing,
/// unexpected or misshapen.
void copy_values(const TensorMap& from, TensorMap to, const std::string& where);

}  // namespace graft
