#include "graft/session/eval_run.h"

#include <ATen/Parallel.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/peft/several.h"
#include "graft/session/experiment.h"
#include "graft/session/progress.h"
#include "graft/session/written_answers.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

Recipe recipe_of(const EvalRunOptions& options, bool is_run) {
  const fs::path path = is_run ? options.target / "recipe.yaml" : options.target;
  if (!fs::exists(path)) {
    throw DataError(options.target.string(), "{}, expected a recipe or a run's folder",
                    is_run ? "no recipe.yaml in it" : "no such file");
  }
  Json document = read_yaml(path);
  for (const std::string& assignment : options.overrides) apply_override(document, assignment);
  return read_recipe(std::move(document));
}

Split chosen_split(const Recipe& recipe, const std::string& name) {
  if (!name.empty()) {
    const Split split = split_of(name);
    if (split_path(recipe.data, split).empty())
      throw UsageError("split", "the recipe has no data.{}, expected a file", name);
    return split;
  }
  for (const Split split : {Split::validation, Split::test, Split::train}) {
    if (!split_path(recipe.data, split).empty()) return split;
  }
  throw UsageError("data", "no files, expected validation, test or train");
}

/// Where a run's trained tensors lie: an adapter, or a whole model.
ExperimentSource source_of(const EvalRunOptions& options, bool is_run) {
  if (!options.adapter.empty()) return {{}, options.adapter, options.drop_adapters};
  if (!is_run) return {};
  if (is_adapter_folder(options.target)) return {{}, options.target, options.drop_adapters};
  if (fs::exists(options.target / "config.json")) return {options.target, {}, 0};
  throw DataError(options.target.string(), "no adapter and no model in it, expected a finished run");
}

void write_predictions(const fs::path& path, const std::vector<Json>& predictions) {
  if (predictions.empty())
    throw UsageError("predictions",
                     "this task has none, expected a task that tells classes, scores or answers");
  std::string text;
  for (size_t i = 0; i < predictions.size(); ++i) {
    Json row = {{"index", i}};
    row.update(predictions[i]);
    text += row.dump() + "\n";
  }
  write_file(path, text);
}

}  // namespace

RunReport eval_run(const EvalRunOptions& options) {
  const bool is_run = fs::is_directory(options.target);
  Recipe recipe = recipe_of(options, is_run);
  if (recipe.train.threads > 0) at::set_num_threads(static_cast<int>(recipe.train.threads));
  const Split split = chosen_split(recipe, options.split);
  std::vector<Split> splits{split};
  // Labels that the recipe does not list come from the training data.
  if (split != Split::train && !recipe.data.train.empty() &&
      recipe.task.value("labels", Json::array()).empty())
    splits.push_back(Split::train);
  const ExperimentSource source = source_of(options, is_run);
  const Experiment experiment = Experiment::open(std::move(recipe), splits, source);
  const Evaluation evaluation = evaluate_split(experiment, experiment.adapter(), split);
  if (!options.predictions.empty()) write_predictions(options.predictions, evaluation.predictions);
  RunReport report;
  report.document = {{"split", split_name(split)},
                     {"sequences", experiment.features(split).size()},
                     {"tokens", evaluation.tokens},
                     {"metrics", evaluation.json()}};
  report.text = fmt::format("{}: {} sequences, {} tokens\n", split_name(split),
                            count_text(static_cast<int64_t>(experiment.features(split).size())),
                            count_text(evaluation.tokens));
  report.text += fmt::format("loss {:.4f}", evaluation.loss);
  for (const auto& [name, value] : evaluation.metrics) report.text += fmt::format("\n{} {:.4f}", name, value);
  return report;
}

}  // namespace graft
