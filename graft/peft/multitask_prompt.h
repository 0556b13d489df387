// Multitask prompt tuning: one prompt, and a low-rank factor a task. Source: Wang et al. 2023; files: PEFT's
// MULTITASK_PROMPT_TUNING.
#pragma once
#include "graft/peft/soft_prompt.h"

namespace graft {

extern const TuningMethod kMultitaskPrompt;

/// prompt ⊙ (cols[t] · rows[t]) for the task t of each sequence; in front of both stacks where there are two.
class MultitaskPrompt : public EmbeddedPrompt {
 public:
  /// cols [tasks, v · submodules, ranks], rows [tasks, ranks, d].
  MultitaskPrompt(PromptSource source, Tensor cols, Tensor rows, int64_t length)
      : EmbeddedPrompt(std::move(source), length), cols_(std::move(cols)), rows_(std::move(rows)) {}
  /// The task of all sequences, or one a sequence ([B] int64) of the batches that follow.
  void set_task(int64_t task) { task_ = task; }
  void set_tasks(Tensor tasks) { tasks_ = std::move(tasks); }

 protected:
  Rows rows_for(const Batch& batch, bool decoder) override;
  bool in_decoder() const override { return true; }

 private:
  Tensor cols_, rows_;
  int64_t task_ = 0;
  Tensor tasks_;
};

}  // namespace graft
