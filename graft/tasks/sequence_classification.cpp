#include "graft/tasks/sequence_classification.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "graft/base/error.h"
#include "graft/base/number.h"
#include "graft/ops/cross_entropy.h"
#include "graft/tasks/class_metrics.h"
#include "graft/tasks/packing.h"

namespace graft {
namespace {

constexpr int64_t kIgnored = -100;
constexpr size_t kMostLabels = 10000;
const char* const kRegression = "regression";
const char* const kClassification = "single_label_classification";

struct SequenceConfig {
  std::string name = "sequence_classification", problem_type;
  int64_t max_length = 0;
  std::vector<std::string> labels, metrics;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task, or a preset of it (glue/mrpc)");
    visit("problem_type", self.problem_type, "empty: regression where labels are fractional numbers",
          one_of({"", kRegression, kClassification}));
    visit("max_length", self.max_length, "longer texts lose their end; 0: 512, or what the model reads",
          at_least<int64_t>(0));
    visit("labels", self.labels,
          "the classes, in the order of the outputs; empty: those of the training data, sorted");
    visit("metrics", self.metrics,
          "of accuracy, f1, f1_macro, matthews, pearson, spearman, mse; the first decides; empty: by the "
          "problem");
  }
};

/// Columns as the recipe names them, or as the first example has them.
struct Columns {
  std::string text, pair, label;

  static std::string first_of(const Example& example, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (example.fields.contains(name)) return name;
    }
    return "";
  }
  static Columns of(const DataConfig& data, const Example& example) {
    Columns out;
    out.text = data.column("text", first_of(example, {"text", "sentence", "sentence1", "text1", "text_a"}));
    out.pair = data.column("text_pair", first_of(example, {"text_pair", "sentence2", "text2", "text_b"}));
    out.label = data.column("label", first_of(example, {"label", "labels", "score"}));
    if (out.text.empty()) out.text = "text";
    if (out.label.empty()) out.label = "label";
    return out;
  }
};

class SequenceTask : public Task {
 public:
  SequenceTask(SequenceConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        data_(setup.data),
        tokenizer_(setup.tokenizer),
        max_length_(length_limit(config_.max_length, setup.max_positions)) {}

  HeadKind head() const override { return HeadKind::sequence_classification; }
  std::vector<std::string> label_names() const override { return config_.labels; }
  int64_t num_labels() const override {
    return regression() ? 1 : static_cast<int64_t>(config_.labels.size());
  }
  std::string problem_type() const override { return config_.problem_type; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    if (examples.empty()) return {};
    const Columns columns = Columns::of(data_, examples[0]);
    const bool labelled = examples[0].fields.contains(columns.label);
    std::vector<TextInput> inputs;
    std::vector<Features> out(examples.size());
    inputs.reserve(examples.size());
    for (size_t i = 0; i < examples.size(); ++i) {
      TextInput input{.text = text_of(examples[i], columns.text), .pair = std::nullopt};
      if (!columns.pair.empty()) input.pair = text_of(examples[i], columns.pair);
      inputs.push_back(std::move(input));
      out[i].example = static_cast<int64_t>(i);
      out[i].target =
          labelled ? target(examples[i], columns.label) : std::numeric_limits<double>::quiet_NaN();
    }
    std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
    for (size_t i = 0; i < examples.size(); ++i) {
      truncate(encodings[i], max_length_, examples[i].where);
      if (encodings[i].ids.empty()) throw DataError(examples[i].where, "{}: no tokens", columns.text);
      out[i].input_ids = std::move(encodings[i].ids);
      const auto& types = encodings[i].type_ids;
      if (std::any_of(types.begin(), types.end(), [](int64_t type) { return type != 0; }))
        out[i].token_type_ids = types;
    }
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t) const override {
    TaskBatch out = pack(features, indices);
    out.batch.rows = model.head_rows(out.batch.layout, out.batch.input_ids);
    std::vector<float> scores;
    std::vector<int64_t> classes;
    for (const int64_t index : indices) {
      const double target = features[static_cast<size_t>(index)].target;
      scores.push_back(static_cast<float>(target));
      classes.push_back(std::isnan(target) ? kIgnored : static_cast<int64_t>(target));
      if (!std::isnan(target)) ++out.label_units;
    }
    out.labels = regression() ? at::tensor(scores, at::kFloat) : at::tensor(classes, at::kLong);
    return out;
  }

  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    const Tensor logits = model.logits(model.run(prepared), prepared);
    if (!regression()) return {ops::cross_entropy(logits, batch.labels), logits};
    const Tensor error = (logits.flatten().to(at::kFloat) - batch.labels).square();
    return {at::where(at::isnan(batch.labels), at::zeros_like(error), error).sum(), logits};
  }

  std::unique_ptr<Metrics> metrics() const override {
    return class_metrics({config_.labels, config_.metrics, regression()});
  }
  std::vector<std::string> metric_names() const override { return config_.metrics; }
  std::string default_metric() const override { return config_.metrics[0]; }
  bool larger_is_better(const std::string& metric) const override {
    return metric != "loss" && metric != "mse";
  }
  Json config() const override { return write_fields(config_); }

 private:
  bool regression() const { return config_.problem_type == kRegression; }

  double target(const Example& example, const std::string& column) const {
    const std::string text = text_of(example, column);
    if (regression()) {
      const auto number = parse_float(text);
      if (!number || !std::isfinite(*number))
        throw DataError(example.where, "{}: '{}', expected a number", column, text);
      return *number;
    }
    const auto found = std::find(config_.labels.begin(), config_.labels.end(), text);
    if (found == config_.labels.end()) {
      throw DataError(example.where, "{}: '{}', expected one of {}{}", column, text, list_of(config_.labels),
                      did_you_mean(text, config_.labels));
    }
    return static_cast<double>(found - config_.labels.begin());
  }

  static std::string list_of(const std::vector<std::string>& labels) {
    std::string list;
    for (size_t i = 0; i < std::min<size_t>(labels.size(), 12); ++i) list += (i ? ", " : "") + labels[i];
    return labels.size() > 12 ? fmt::format("{} and {} more", list, labels.size() - 12) : list;
  }

  SequenceConfig config_;
  DataConfig data_;
  const Tokenizer& tokenizer_;
  int64_t max_length_;
};

/// The training data's label texts, each once; whole numbers in their own order.
std::vector<std::string> labels_in(const TaskSetup& setup) {
  if (!setup.train || setup.train->empty()) {
    throw UsageError("task.labels",
                     "missing, expected the classes where there is no training data to take them from");
  }
  const Columns columns = Columns::of(setup.data, setup.train->front());
  std::set<std::string> found;
  for (const Example& example : *setup.train) found.insert(text_of(example, columns.label));
  std::vector<std::string> labels(found.begin(), found.end());
  const auto whole = [](const std::string& text) { return parse_integer(text).has_value(); };
  if (std::all_of(labels.begin(), labels.end(), whole)) {
    std::sort(labels.begin(), labels.end(),
              [](const auto& a, const auto& b) { return *parse_integer(a) < *parse_integer(b); });
  }
  return labels;
}

bool fractional(const std::vector<std::string>& labels) {
  const auto number = [](const std::string& text) { return parse_float(text).has_value(); };
  const auto whole = [](const std::string& text) { return parse_integer(text).has_value(); };
  return std::all_of(labels.begin(), labels.end(), number) &&
         !std::all_of(labels.begin(), labels.end(), whole);
}

void find_problem(SequenceConfig& config, const TaskSetup& setup) {
  if (config.problem_type == kRegression) {
    if (!config.labels.empty()) throw UsageError("task.labels", "given for a regression, expected none");
    return;
  }
  if (config.labels.empty()) {
    config.labels = labels_in(setup);
    if (config.problem_type.empty() && fractional(config.labels)) {
      config.problem_type = kRegression;
      config.labels.clear();
      return;
    }
  }
  config.problem_type = kClassification;
  if (config.labels.size() < 2 || config.labels.size() > kMostLabels) {
    throw DataError(setup.train && !setup.train->empty() ? setup.train->front().where : "task.labels",
                    "{} classes, expected 2 to {}", config.labels.size(), kMostLabels);
  }
  if (std::set<std::string>(config.labels.begin(), config.labels.end()).size() != config.labels.size())
    throw UsageError("task.labels", "a class is listed twice, expected each once");
}

std::unique_ptr<Task> create(const TaskSetup& setup) {
  auto config = read_fields<SequenceConfig>(setup.task, "task");
  find_problem(config, setup);
  const bool regression = config.problem_type == kRegression;
  settle_metrics(config.metrics, regression);
  return std::make_unique<SequenceTask>(std::move(config), setup);
}

std::vector<FieldHelp> help() { return describe_fields<SequenceConfig>("task"); }

}  // namespace

const TaskKind kSequenceClassification = {
    .name = "sequence_classification",
    .summary = "one text or a pair of texts to a class or a score",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 3.0}, {"batch_size", 32}, {"learning_rate", 4e-4}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
