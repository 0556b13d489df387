// What training and evaluation are made of: tokenizer, task, model, examples; opened side by side, so that
// the first step comes soon.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "graft/peft/adapter.h"
#include "graft/session/recipe.h"
#include "graft/tasks/registry.h"

namespace graft {

/// Where an experiment's model comes from, if not from the recipe's `model`.
struct ExperimentSource {
  std::filesystem::path model;    // a whole model; empty: the recipe's
  std::filesystem::path adapter;  // an adapter to be attached; empty: none
  int64_t drop_adapters = 0;  // AdapterDrop: its bottlenecks in this many of the lowest layers are left out
};

class Experiment {
 public:
  /// Reads `splits` (those that the recipe names) and loads. Errors: UsageError, DataError.
  static Experiment open(Recipe recipe, const std::vector<Split>& splits, const ExperimentSource& source);
  Experiment(Experiment&&) = default;

  Model& model() const { return *model_; }
  const Task& task() const { return *task_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::vector<Features>& features(Split split) const { return features_[static_cast<size_t>(split)]; }
  /// Number of examples that were read of a split.
  int64_t examples(Split split) const { return counts_[static_cast<size_t>(split)]; }
  /// With every key of the task's part.
  const Recipe& recipe() const { return recipe_; }
  /// The adapter of the source, attached; nullptr: none.
  const Adapter* adapter() const { return adapter_.get(); }

 private:
  Experiment() = default;
  Recipe recipe_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Adapter> adapter_;
  std::vector<Features> features_[3];
  int64_t counts_[3] = {0, 0, 0};
};

/// Errors: DataError where a sequence that is to be trained or judged on has no label.
void require_labels(const Experiment& experiment, Split split);

}  // namespace graft
