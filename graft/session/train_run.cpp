#include "graft/session/train_run.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/log.h"
#include "graft/ops/tensor_memory.h"
#include "graft/peft/method_config.h"
#include "graft/peft/soft_prompt.h"
#include "graft/session/dry_run.h"
#include "graft/session/experiment.h"
#include "graft/session/fresh_adapter.h"
#include "graft/session/interrupt.h"
#include "graft/session/machine.h"
#include "graft/session/memory_plan.h"
#include "graft/session/metrics_log.h"
#include "graft/session/progress.h"
#include "graft/session/written_answers.h"
#include "graft/tasks/chat_forms.h"
#include "graft/tasks/instruction.h"
#include "graft/train/master_weights.h"
#include "graft/train/state.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// The first steps are slower: caches fill, kernels are chosen.
constexpr int64_t kWarmSteps = 3;

/// The method's keys as the adapter's config has them, without those that only files carry.
Json effective_method(const Json& given, const Adapter& adapter) {
  if (given.is_array()) {
    Json list = Json::array();
    for (size_t i = 0; i < given.size(); ++i) list.push_back(effective_method(given[i], adapter.parts[i]));
    return list;
  }
  Json method = {{"name", given["name"]}};
  if (adapter.method->files == AdapterFiles::adapterhub) {
    for (const char* part : {"config", "graft"}) {
      for (const auto& [key, value] : adapter.config[part].items()) method[key] = value;
    }
    return method;
  }
  for (const auto& [key, value] : adapter.config.items()) {
    if (!is_file_key(key)) method[key] = value;
  }
  return method;
}

/// Errors: UsageError where the task's pseudo tokens are nobody's.
void require_filled(const Task& task, const Adapter& adapter) {
  if (task.pseudo_tokens().empty() || dynamic_cast<const EmbeddedPrompt*>(adapter.input.get())) return;
  throw UsageError(
      "method",
      "{} does not fill the pseudo tokens of task.template, expected p_tuning or prompt_tuning, or "
      "a template without {{soft}}",
      adapter.method->name);
}

/// Speed and start of this process's part of the run.
class Pace {
 public:
  void add(const StepReport& report) {
    if (steps_ == 0) first_step_ = seconds_since_start();
    ++steps_;
    const double rate = static_cast<double>(report.tokens) / std::max(report.seconds, 1e-9);
    (steps_ > kWarmSteps ? rates_ : warm_rates_).push_back(rate);
  }
  double median() const {
    std::vector<double> rates = rates_.empty() ? warm_rates_ : rates_;
    if (rates.empty()) return 0;
    const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
    std::nth_element(rates.begin(), middle, rates.end());
    return *middle;
  }
  double first_step() const { return first_step_; }

 private:
  int64_t steps_ = 0;
  double first_step_ = 0;
  std::vector<double> rates_, warm_rates_;
};

std::string metrics_text(const Json& metrics) {
  std::string text;
  if (!metrics.is_object()) return "none";
  for (const auto& [name, value] : metrics.items()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name,
                        value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "none");
  }
  return text;
}

/// What the run came to: the validation split's metrics; without such a split, the last step's loss and the
/// speed.
std::string outcome_text(const Json& results) {
  if (!results["metrics"].empty()) return metrics_text(results["metrics"]);
  const Json loss = results.value("train_loss", Json());
  return fmt::format("training loss {}, {} tokens/s",
                     loss.is_number() ? fmt::format("{:.4f}", loss.get<double>()) : "none",
                     count_text(static_cast<int64_t>(results["useful_tokens_per_second"].get<double>())));
}

class TrainRun {
 public:
  TrainRun(Recipe recipe, const TrainRunOptions& options)
      : options_(options), folder_(recipe.output), experiment_(open(std::move(recipe), options)) {
    recipe_ = experiment_.recipe();
    require_labels(experiment_, Split::train);
    require_labels(experiment_, Split::validation);
    check_metric();
    Model& model = experiment_.model();
    adapter_ = fresh_adapter(experiment_, recipe_);
    require_filled(experiment_.task(), adapter_);
    attach(adapter_, model);
    if (recipe_.train.master_weights == "none") drop_master_weights(adapter_, model);
    recipe_.method = effective_method(recipe_.method, adapter_);
    trainer_.emplace(TrainingSet{model, adapter_, experiment_.task(), experiment_.features(Split::train),
                                 experiment_.features(Split::validation)},
                     recipe_.train, folder_ / "checkpoints");
  }

  RunReport run() {
    if (options_.dry_run) return dry_run_report(experiment_, adapter_, *trainer_);
    if (const auto finished = finished_before()) return report_of(*finished);
    open_run_folder(folder_, options_.existing);
    write_file(folder_ / "recipe.yaml", to_yaml(recipe_document(recipe_)));
    plan_blocks();
    if (const auto checkpoint = newest_checkpoint(open_checkpoints(folder_))) trainer_->resume(*checkpoint);
    const TrainOutcome outcome = train();
    if (outcome.end == TrainEnd::interrupted) return interrupted(outcome);
    return report_of(write_results(outcome));
  }

 private:
  /// How many blocks compute their activations anew; measured only where a limit is given.
  void plan_blocks() {
    const TrainConfig& train = recipe_.train;
    if (train.memory.empty() && train.checkpointing != "true") return;
    trainer_->recompute(train.memory.empty() ? experiment_.model().info().num_layers
                                             : plan_memory(experiment_, adapter_, *trainer_).recomputed);
  }

  static Experiment open(Recipe recipe, const TrainRunOptions& options) {
    if (!options.dry_run) check_run_folder(recipe.output, options.existing, recipe.inputs());
    if (recipe.data.train.empty()) throw UsageError("data.train", "missing, expected a file to train on");
    return Experiment::open(std::move(recipe), {Split::train, Split::validation, Split::test}, {});
  }

  void check_metric() const {
    const std::string& metric = recipe_.train.metric;
    std::vector<std::string> names = experiment_.task().metric_names();
    if (metric.empty() || metric == "loss" || names.empty()) return;
    if (std::find(names.begin(), names.end(), metric) != names.end()) return;
    std::string list = "loss";
    for (const std::string& name : names) list += ", " + name;
    throw UsageError("train.metric", "{}, expected one of {}{}", metric, list, did_you_mean(metric, names));
  }

  /// The results of this very run, where it came to its end. Errors: UsageError where the folder holds
  /// another run.
  std::optional<Json> finished_before() const {
    if (options_.existing != Existing::resume || !fs::exists(folder_ / "recipe.yaml")) return {};
    const auto changes = differences(recipe_document(recipe_), read_yaml(folder_ / "recipe.yaml"));
    if (!changes.empty()) {
      std::string list;
      for (const std::string& change : changes) list += (list.empty() ? "" : "; ") + change;
      throw UsageError("resume", "{} holds another run: {}; --overwrite starts anew", folder_.string(), list);
    }
    if (!fs::exists(folder_ / "results.json")) return {};
    Json results = read_object(folder_ / "results.json");
    if (!results.contains("best_step"))
      throw DataError((folder_ / "results.json").string(),
                      "has no best_step, expected a finished run's results");
    info("{} is finished already", folder_.string());
    return results;
  }

  TrainOutcome train() {
    const Interrupt interrupt;
    MetricsLog log(folder_, trainer_->step());
    Progress progress;
    if (trainer_->step() > 0)
      progress.line(fmt::format("going on after step {} of {}", trainer_->step(), trainer_->total_steps()));
    TrainEvents events;
    events.on_step = [&](const StepReport& report) {
      pace_.add(report);
      last_loss_ = report.loss;
      if (report.step % recipe_.train.log_every == 0 || report.evaluation ||
          report.step == report.total_steps)
        log.add(report);
      progress.add(report);
      if (report.evaluation) {
        progress.line(fmt::format("step {}: {}", report.step, metrics_text(report.evaluation->json())));
      }
    };
    events.stop = [] { return Interrupt::requested(); };
    return trainer_->run(events);
  }

  RunReport interrupted(const TrainOutcome& outcome) const {
    const std::string text = fmt::format("stopped after step {} of {}; go on with: {}", outcome.steps,
                                         trainer_->total_steps(), options_.command);
    return {{{"interrupted", true}, {"steps", outcome.steps}, {"output", folder_.string()}}, text, 1};
  }

  Json results_of(const TrainOutcome& outcome) const {
    Json results = {{"metrics", outcome.metrics.is_null() ? Json::object() : outcome.metrics},
                    {"best_step", outcome.best_step},
                    {"steps", outcome.steps},
                    {"train_loss", last_loss_},
                    {"trainable_parameters", parameter_count(trainable(adapter_))},
                    {"total_parameters", total_parameters(experiment_.model())},
                    {"useful_tokens_per_second", pace_.median()},
                    {"seconds_to_first_step", pace_.first_step()},
                    {"peak_memory_bytes", peak_memory_bytes()},
                    {"versions", versions()},
                    {"machine", machine()}};
    if (outcome.end == TrainEnd::stopped_early) results["stopped_early"] = true;
    return results;
  }

  /// Metrics of the test split, where it has labels.
  std::optional<Evaluation> test_metrics() const {
    const auto& features = experiment_.features(Split::test);
    const bool unlabelled = std::any_of(features.begin(), features.end(),
                                        [](const Features& one) { return std::isnan(one.target); });
    if (features.empty() || unlabelled) return {};
    return evaluate_split(experiment_, &adapter_, Split::test);
  }

  /// results.json comes last: where it is, the run is whole.
  Json write_results(const TrainOutcome& outcome) {
    Json results = results_of(outcome);
    if (const auto test = test_metrics()) results["test_metrics"] = test->json();
    const Model& model = experiment_.model();
    write_trained(folder_, adapter_, model, recipe_.save_dtype(), recipe_.text_folder());
    const bool chats = recipe_.task.value("name", "") == kInstruction.name;
    const std::string form = chats ? recipe_.task.value("template", "") : "";
    if (!form.empty()) write_file(folder_ / "chat_template.jinja", chat_form_source(form));
    const std::string base = recipe_.from_scratch() ? "random weights" : recipe_.model.path.string();
    const RunSummary summary{folder_.filename().string(), base, recipe_document(recipe_), results};
    write_file(folder_ / "README.md", model_card(summary, adapter_, model));
    write_file(folder_ / "results.json", to_pretty_json(results) + "\n");
    return results;
  }

  RunReport report_of(const Json& results) const {
    std::string text =
        fmt::format("{}: step {} of {}: {}\n", folder_.string(), results["best_step"].get<int64_t>(),
                    results["steps"].get<int64_t>(), outcome_text(results));
    if (results.contains("test_metrics"))
      text += fmt::format("test: {}\n", metrics_text(results["test_metrics"]));
    text += fmt::format("{} of {} parameters trained, {} tokens/s, first step after {:.2f} s, at most {}",
                        count_text(results["trainable_parameters"].get<int64_t>()),
                        count_text(results["total_parameters"].get<int64_t>()),
                        count_text(static_cast<int64_t>(results["useful_tokens_per_second"].get<double>())),
                        results["seconds_to_first_step"].get<double>(),
                        bytes_text(results["peak_memory_bytes"].get<int64_t>()));
    Json document = results;
    document["output"] = folder_.string();
    return {document, text, 0};
  }

  TrainRunOptions options_;
  fs::path folder_;
  Experiment experiment_;
  Recipe recipe_;  // effective
  Adapter adapter_;
  std::optional<Trainer> trainer_;
  Pace pace_;
  double last_loss_ = 0;
};

}  // namespace

RunReport train_run(const Recipe& recipe, const TrainRunOptions& options) {
  ops::keep_tensor_memory();
  if (recipe.train.threads > 0) at::set_num_threads(static_cast<int>(recipe.train.threads));
  return TrainRun(recipe, options).run();
}

}  // namespace graft
