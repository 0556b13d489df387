#include "graft/session/fresh_adapter.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/peft/several.h"
#include "graft/session/start_words.h"
#include "graft/train/evaluate.h"
#include "graft/train/plan.h"

namespace graft {
namespace {

constexpr int64_t kUnlabelled = -100;

/// The batches of the first epoch, again and again.
class Batches {
 public:
  Batches(const Experiment& experiment, Plan plan) : experiment_(experiment), plan_(std::move(plan)) {}

  StudyBatch next() {
    if (waiting_.empty()) {
      Plan::Step step = plan_.step(position_);
      position_ = step.ends_epoch ? Position{} : step.next;
      waiting_ = {step.batches.rbegin(), step.batches.rend()};
    }
    const std::vector<int64_t> indices = std::move(waiting_.back());
    waiting_.pop_back();
    const std::vector<Features>& features = experiment_.features(Split::train);
    StudyBatch out{experiment_.task().collate(features, indices, experiment_.model(), 0).batch,
                   labelled(indices)};
    out.batch.rows = Tensor();
    return out;
  }

 private:
  /// The rows whose own label counts; undefined where labels belong to whole sequences.
  Tensor labelled(const std::vector<int64_t>& indices) const {
    std::vector<int64_t> rows;
    int64_t row = 0;
    bool any = false;
    for (const int64_t index : indices) {
      const Features& one = experiment_.features(Split::train)[static_cast<size_t>(index)];
      any = any || !one.labels.empty();
      for (size_t i = 0; i < one.labels.size(); ++i) {
        if (one.labels[i] != kUnlabelled) rows.push_back(row + static_cast<int64_t>(i));
      }
      row += static_cast<int64_t>(one.input_ids.size());
    }
    return any ? at::tensor(rows, at::kLong) : Tensor();
  }

  const Experiment& experiment_;
  Plan plan_;
  Position position_;
  std::vector<std::vector<int64_t>> waiting_;  // last first
};

Adapter fresh_part(const Experiment& experiment, const Recipe& recipe, const Json& given) {
  const auto name = given["name"].get<std::string>();
  if (name == "none")
    throw UsageError("method",
                     "none trains nothing, expected a method; `graft eval` judges a model as it is");
  const TuningMethod& method = tuning_method(name);
  const auto seed = static_cast<uint64_t>(recipe.train.seed);
  Json config = with_start_words(given, experiment.tokenizer(), experiment.task());
  const auto plan = [&] { return Plan(lengths_of(experiment.features(Split::train)), recipe.train); };
  if (method.steps_key && config.value(method.steps_key, Json()).is_null())
    config[method.steps_key] = plan().total_steps();
  if (!method.create_from_data) return method.create(config, experiment.model(), seed);
  std::optional<Batches> batches;
  return method.create_from_data(config, experiment.model(), seed, [&] {
    if (!batches) batches.emplace(experiment, plan());
    return batches->next();
  });
}

}  // namespace

Adapter fresh_adapter(const Experiment& experiment, const Recipe& recipe) {
  return create_adapter(recipe.method, [&](const Json& one) { return fresh_part(experiment, recipe, one); });
}

}  // namespace graft
