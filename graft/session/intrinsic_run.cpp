#include "graft/session/intrinsic_run.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <system_error>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/log.h"
#include "graft/session/experiment.h"
#include "graft/session/interrupt.h"
#include "graft/session/intrinsic_report.h"
#include "graft/session/machine.h"
#include "graft/session/progress.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// The search ends here and goes on with --resume.
struct Interrupted {};

/// `train` with some keys other.
TrainConfig changed(const TrainConfig& config, const Json& keys, const std::string& where) {
  Json document = write_fields(config);
  if (!keys.is_object()) fail_value(keys, where, "keys of train");
  document.update(keys);
  return read_fields<TrainConfig>(document, where);
}

/// Errors: UsageError for a key that said and did do not have.
void check_method_keys(const Json& keys) {
  if (!keys.is_object()) fail_value(keys, "intrinsic.method", "keys of said and did");
  const std::string part = "method.";
  std::vector<std::string> known;
  for (const FieldHelp& row : tuning_method("did").help()) known.push_back(row.path.substr(part.size()));
  for (const auto& [key, value] : keys.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw UsageError("intrinsic.method." + key, "unknown key{}", did_you_mean(key, known));
  }
}

void check_rates(const std::vector<double>& rates, const char* key) {
  for (const double rate : rates) {
    if (rate < 0) throw UsageError(key, "{}, expected at least 0", rate);
  }
}

class IntrinsicRun {
 public:
  IntrinsicRun(IntrinsicRecipe recipe, const TrainRunOptions& options)
      : options_(options),
        search_(std::move(recipe.search)),
        folder_(recipe.recipe.output),
        experiment_(open(std::move(recipe.recipe), options)) {
    const Recipe& effective = experiment_.recipe();
    require_labels(experiment_, Split::train);
    require_labels(experiment_, Split::validation);
    train_ = effective.train;
    result_.metric = train_.metric.empty() ? experiment_.task().default_metric() : train_.metric;
    if (result_.metric == "loss" || !experiment_.task().larger_is_better(result_.metric))
      throw UsageError("train.metric", "{}, expected a metric that is better when larger", result_.metric);
    result_.task = effective.task.value("name", "");
    const fs::path model =
        effective.from_scratch() ? effective.model.from_scratch.config : effective.model.path;
    result_.model = search_.name.empty() ? fs::weakly_canonical(model).stem().string() : search_.name;
    check_methods();
  }

  RunReport run() {
    start();
    const Interrupt interrupt;
    try {
      find_full_score();
      for (const std::string& method : search_.methods) {
        result_.d90[method] =
            find_smallest_dimension(method, least(method), train_.seed, search_,
                                    [&](const IntrinsicTrial& wanted) { return trial(wanted); });
      }
    } catch (const Interrupted&) {
      const std::string text =
          fmt::format("stopped after {} runs; go on with: {}", result_.trials.size(), options_.command);
      return {
          {{"interrupted", true}, {"runs", result_.trials.size()}, {"output", folder_.string()}}, text, 1};
    }
    return finish();
  }

 private:
  static Experiment open(Recipe recipe, const TrainRunOptions& options) {
    check_run_folder(recipe.output, options.existing, recipe.inputs());
    if (recipe.data.train.empty() || recipe.data.validation.empty())
      throw UsageError(
          "data", "train or validation is missing, expected both: scores are those of the validation split");
    return Experiment::open(std::move(recipe), {Split::train, Split::validation}, {});
  }

  /// Errors: UsageError of what would otherwise show only after full fine-tuning.
  void check_methods() const {
    for (const std::string& method : search_.methods) {
      const int64_t d = method_grid(method, least(method), search_).front();
      tuning_method(method).create(method_config(method, d), experiment_.model(), 0);
    }
  }

  Json document() const {
    Json out = recipe_document(experiment_.recipe());
    out.erase("method");
    out["intrinsic"] = write_fields(search_);
    return out;
  }

  /// Makes the folder, or reads the trials of the run that is gone on with.
  void start() {
    const fs::path recipe = folder_ / "recipe.yaml", trials = folder_ / "trials.json";
    if (options_.existing == Existing::resume && fs::exists(recipe)) {
      const auto changes = differences(document(), read_yaml(recipe));
      if (!changes.empty())
        throw UsageError("resume", "{} holds another search: {}; --overwrite starts anew", folder_.string(),
                         changes[0]);
      if (fs::exists(trials)) read_value(read_json(trials), result_.trials, trials.string());
    }
    open_run_folder(folder_, options_.existing);
    write_file(recipe, to_yaml(document()));
  }

  void find_full_score() {
    if (search_.full_score) {
      result_.full_score = *search_.full_score;
    } else {
      double sum = 0;
      for (int64_t i = 0; i < search_.seeds; ++i) {
        IntrinsicTrial wanted;
        wanted.method = "full";
        wanted.seed = train_.seed + i;
        wanted.learning_rate = changed(train_, search_.full, "intrinsic.full").learning_rate;
        sum += trial(wanted).score;
      }
      result_.full_score = sum / static_cast<double>(search_.seeds);
    }
    result_.threshold = search_.share * result_.full_score;
    info("full fine-tuning: {} {:.4f}, to be reached: {:.4f}", result_.metric, result_.full_score,
         result_.threshold);
  }

  Json method_config(const std::string& method, int64_t d) const {
    if (method == "full") return {{"name", "full"}};
    Json config = search_.method;
    config["name"] = method;
    config["d"] = d;
    return config;
  }

  /// said spends one number a tensor on its factors.
  int64_t least(const std::string& method) const {
    if (method == "did") return 1;
    const Adapter probe = tuning_method("did").create(method_config("did", 1), experiment_.model(), 0);
    const bool reference = probe.config.value("gradient", "") == "reference";
    return probe.config["tensors"].get<int64_t>() + (reference ? 2 : 1);
  }

  IntrinsicTrial trial(const IntrinsicTrial& wanted) {
    for (const IntrinsicTrial& done : result_.trials) {
      if (done.same_run(wanted)) return judged(done);
    }
    const IntrinsicTrial done = judged(trained(wanted));
    result_.trials.push_back(done);
    write_file(folder_ / "trials.json", to_pretty_json(write_value(result_.trials)) + "\n");
    info("{} d {} seed {} learning rate {:.2g}: {} {:.4f}{} after {} steps, {}", done.method, done.d,
         done.seed, done.learning_rate, result_.metric, done.score, done.reached ? ", reached," : "",
         done.steps, duration_text(done.seconds));
    return done;
  }

  IntrinsicTrial judged(IntrinsicTrial trial) const {
    trial.reached = trial.method != "full" && trial.score >= result_.threshold;
    return trial;
  }

  /// One training run; its checkpoints let a killed one go on.
  IntrinsicTrial trained(IntrinsicTrial wanted) {
    const auto begin = std::chrono::steady_clock::now();
    const bool full = wanted.method == "full";
    TrainConfig config = full ? changed(train_, search_.full, "intrinsic.full") : train_;
    config.seed = wanted.seed;
    config.learning_rate = wanted.learning_rate;
    Model& model = experiment_.model();
    Adapter adapter =
        tuning_method(wanted.method)
            .create(method_config(wanted.method, wanted.d), model, static_cast<uint64_t>(wanted.seed));
    attach(adapter, model);
    const fs::path checkpoints =
        folder_ / "unfinished" /
        fmt::format("{}-{}-{}-{:g}", wanted.method, wanted.d, wanted.seed, wanted.learning_rate);
    Trainer trainer({model, adapter, experiment_.task(), experiment_.features(Split::train),
                     experiment_.features(Split::validation)},
                    config, checkpoints);
    if (const auto checkpoint = newest_of(checkpoints)) trainer.resume(*checkpoint);
    bool reached = false;
    TrainEvents events;
    events.on_step = [&](const StepReport& report) {
      if (!report.evaluation) return;
      wanted.score = std::max(wanted.score, report.evaluation->value(result_.metric));
      reached = !full && wanted.score >= result_.threshold;
    };
    // What came after would change nothing: the score is reached.
    events.stop = [&] { return reached || Interrupt::requested(); };
    const TrainOutcome outcome = trainer.run(events);
    detach(model);
    if (outcome.end == TrainEnd::interrupted && !reached) throw Interrupted();
    if (outcome.metrics.is_object())
      wanted.score = std::max(wanted.score, outcome.metrics.value(result_.metric, 0.0));
    wanted.steps = outcome.steps;
    wanted.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::error_code ignored;
    fs::remove_all(checkpoints.parent_path(), ignored);
    return wanted;
  }

  static std::optional<fs::path> newest_of(const fs::path& checkpoints) {
    std::error_code error;
    fs::create_directories(checkpoints, error);
    if (error) throw DataError(checkpoints.string(), "cannot be made: {}", error.message());
    return newest_checkpoint(checkpoints);
  }

  RunReport finish() {
    Json d90 = Json::object();
    for (const auto& [method, dimension] : result_.d90) d90[method] = dimension.json();
    const Adapter probe = tuning_method("did").create(method_config("did", 1), experiment_.model(), 0);
    Json results = {{"model", result_.model},
                    {"task", result_.task},
                    {"metric", result_.metric},
                    {"full_score", result_.full_score},
                    {"threshold", result_.threshold},
                    {"share", search_.share},
                    {"d90", d90},
                    {"head", probe.config["head"]},
                    {"gradient", probe.config["gradient"]},
                    {"projection", probe.config["projection"]},
                    {"target_tensors", probe.config["target_tensors"]},
                    {"moved_parameters", probe.config["dimension"]},
                    {"moved_tensors", probe.config["tensors"]},
                    {"seeds", search_.seeds},
                    {"runs", result_.trials.size()},
                    {"peak_memory_bytes", peak_memory_bytes()},
                    {"versions", versions()},
                    {"machine", machine()}};
    const std::string table = intrinsic_table(result_);
    write_file(folder_ / "scores.csv", intrinsic_csv(result_));
    write_file(folder_ / "figure.svg", intrinsic_svg(result_));
    write_file(folder_ / "table.md", table);
    write_file(folder_ / "results.json", to_pretty_json(results) + "\n");
    results["output"] = folder_.string();
    return {results, text_of(d90) + "\n" + table, 0};
  }

  std::string text_of(const Json& d90) const {
    std::string text =
        fmt::format("{} on {}: {} {:.4f} by full fine-tuning, {:.0f} % of it is {:.4f}\n", result_.model,
                    result_.task, result_.metric, result_.full_score, 100 * search_.share, result_.threshold);
    for (const auto& [method, dimension] : d90.items()) {
      text +=
          fmt::format("d90 by {}: {}, seeds from {} to {}{}\n", method, dimension["value"].dump(),
                      dimension["low"].dump(), dimension["high"].dump(),
                      dimension.contains("note") ? " (" + dimension["note"].get<std::string>() + ")" : "");
    }
    return text;
  }

  TrainRunOptions options_;
  IntrinsicSearchConfig search_;
  fs::path folder_;
  Experiment experiment_;
  TrainConfig train_;
  IntrinsicResult result_;
};

}  // namespace

IntrinsicRecipe read_intrinsic_recipe(Json document) {
  IntrinsicRecipe out;
  if (!document.is_object())
    throw UsageError("recipe", "not a mapping, expected the keys model, task, data, intrinsic …");
  if (document.contains("method"))
    throw UsageError("method", "given, expected none: the keys of said and did stand in intrinsic.method");
  if (document.contains("intrinsic"))
    out.search = read_fields<IntrinsicSearchConfig>(document["intrinsic"], "intrinsic");
  document.erase("intrinsic");
  document["method"] = "full";
  out.recipe = read_recipe(std::move(document));
  if (out.search.methods.empty() || out.search.learning_rates.empty())
    throw UsageError("intrinsic", "methods or learning_rates is empty, expected at least one each");
  for (const std::string& method : out.search.methods) {
    if (method != "said" && method != "did")
      throw UsageError("intrinsic.methods", "{}, expected said or did", method);
  }
  changed(out.recipe.train, out.search.full, "intrinsic.full");
  check_method_keys(out.search.method);
  check_rates(out.search.learning_rates, "intrinsic.learning_rates");
  check_rates(out.search.said_learning_rates, "intrinsic.said_learning_rates");
  return out;
}

RunReport intrinsic_run(const IntrinsicRecipe& recipe, const TrainRunOptions& options) {
  if (recipe.recipe.train.threads > 0) at::set_num_threads(static_cast<int>(recipe.recipe.train.threads));
  return IntrinsicRun(recipe, options).run();
}

std::vector<FieldHelp> intrinsic_help() { return describe_fields<IntrinsicSearchConfig>("intrinsic"); }

}  // namespace graft
