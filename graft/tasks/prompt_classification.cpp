#include "graft/tasks/prompt_classification.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <map>

#include "graft/base/error.h"
#include "graft/ops/cross_entropy.h"
#include "graft/tasks/class_metrics.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/prompt_template.h"
#include "graft/tasks/token_loss.h"

namespace graft {
namespace {

struct PromptConfig {
  std::string name = "prompt_classification", text, head, word_pieces = "first";
  Ordered<Json> verbalizer;
  int64_t max_length = 0;
  std::vector<std::string> metrics;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("template", self.text,
          "the sequence: words, {COLUMN}, {mask}, pseudo tokens {soft}, {soft:3} or {soft:\"words\"}, "
          "{special:[SEP]}");
    visit("verbalizer", self.verbalizer, "each class's word, or a list of its words");
    visit("word_pieces", self.word_pieces,
          "of a word with several tokens: the first one's score, or the mean", one_of({"first", "mean"}));
    visit("head", self.head, "what fills the blank; empty: by whether the tokenizer has a mask token",
          one_of({"", "masked_lm", "causal_lm"}));
    visit("max_length", self.max_length,
          "longer sequences lose the ends of their texts; 0: 512, or what the "
          "model reads",
          at_least<int64_t>(0));
    visit("metrics", self.metrics, "of accuracy, f1, f1_macro, matthews; the first decides");
  }
};

/// Which tokens speak for which class: a class's score is the mean of its words' scores.
class Verbalizer {
 public:
  Verbalizer(const PromptConfig& config, const PromptTemplate& prompt) {
    for (const auto& [label, given] : config.verbalizer) {
      std::vector<std::string> words;
      const std::string where = "task.verbalizer." + label;
      if (given.is_array()) {
        read_value(given, words, where);
      } else {
        read_value(given, words.emplace_back(), where);
      }
      if (words.empty()) throw UsageError(where, "no words, expected one or more");
      for (const std::string& word : words) {
        std::vector<int64_t> ids = prompt.answer_ids(word);
        if (config.word_pieces == "first") ids.resize(1);
        add(ids, {label, word}, static_cast<double>(words.size()));
      }
      labels.push_back(label);
    }
    if (labels.size() < 2)
      throw UsageError("task.verbalizer", "{} classes, expected 2 or more", labels.size());
    ids_ = at::tensor(tokens_, at::kLong);
    weights_ = at::zeros({ids_.size(0), static_cast<int64_t>(labels.size())});
    for (size_t i = 0; i < shares_.size(); ++i)
      weights_[static_cast<int64_t>(i)][shares_[i].first] = shares_[i].second;
  }
  /// logits [B, vocabulary] → [B, classes].
  Tensor scores(const Tensor& logits) const {
    if (tokens_.empty() || logits.size(1) <= *std::max_element(tokens_.begin(), tokens_.end()))
      throw DataError("task.verbalizer", "a word's token lies outside of the model's vocabulary of {}",
                      logits.size(1));
    return at::matmul(logits.index_select(1, ids_).to(at::kFloat), weights_);
  }
  std::vector<std::string> labels;

 private:
  struct Word {
    std::string label, text;
  };
  void add(const std::vector<int64_t>& ids, const Word& word, double words) {
    const auto [found, fresh] = owners_.emplace(ids, word);
    if (!fresh) {
      throw UsageError("task.verbalizer",
                       "'{}' of {} and '{}' of {} are the same tokens, expected different words{}",
                       found->second.text, found->second.label, word.text, word.label,
                       ids.size() == 1 ? " (or word_pieces: mean)" : "");
    }
    for (const int64_t id : ids) {
      tokens_.push_back(id);
      shares_.emplace_back(static_cast<int64_t>(labels.size()),
                           1 / (words * static_cast<double>(ids.size())));
    }
  }

  std::map<std::vector<int64_t>, Word> owners_;
  std::vector<int64_t> tokens_;
  std::vector<std::pair<int64_t, double>> shares_;  // class, weight of each token
  Tensor ids_, weights_;
};

class PromptTask : public Task {
 public:
  PromptTask(PromptConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        label_column_(setup.data.column("label", "label")),
        masked_(config_.head.empty() ? setup.tokenizer.mask_id().has_value() : config_.head == "masked_lm"),
        prompt_(config_.text, setup.data, setup.tokenizer,
                {masked_, length_limit(config_.max_length, setup.max_positions)}),
        verbalizer_(config_, prompt_) {}

  HeadKind head() const override { return masked_ ? HeadKind::masked_lm : HeadKind::causal_lm; }
  std::vector<std::string> label_names() const override { return {}; }
  int64_t num_labels() const override { return 0; }
  std::vector<int64_t> pseudo_tokens() const override { return prompt_.pseudo_tokens(); }
  std::string problem_type() const override { return ""; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    const bool labelled = !examples.empty() && examples[0].fields.contains(label_column_);
    std::vector<Features> out;
    for (size_t i = 0; i < examples.size(); ++i) {
      PromptTemplate::Filled filled = prompt_.fill(examples[i]);
      Features one;
      one.example = static_cast<int64_t>(i);
      one.target = labelled ? target(examples[i]) : std::numeric_limits<double>::quiet_NaN();
      one.labels = {filled.answer_row};
      one.input_ids = std::move(filled.ids);
      out.push_back(std::move(one));
    }
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices, const Model&,
                    int64_t) const override {
    TaskBatch out = pack(features, indices);
    std::vector<int64_t> rows, classes;
    for (size_t b = 0; b < indices.size(); ++b) {
      const Features& one = features[static_cast<size_t>(indices[b])];
      rows.push_back(out.batch.layout.offsets[b] + one.labels[0]);
      classes.push_back(std::isnan(one.target) ? kNoLabel : static_cast<int64_t>(one.target));
      if (!std::isnan(one.target)) ++out.label_units;
    }
    out.batch.rows = at::tensor(rows, at::kLong);
    out.labels = at::tensor(classes, at::kLong);
    return out;
  }

  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    if (!prompt_.pseudo_tokens().empty() && prepared.input_ids.defined()) {
      throw UsageError("task.template",
                       "pseudo tokens that no adapter fills, expected one of p_tuning or "
                       "prompt_tuning");
    }
    const Tensor scores = verbalizer_.scores(model.logits(model.run(prepared), prepared));
    return {ops::cross_entropy(scores, batch.labels), scores};
  }

  std::unique_ptr<Metrics> metrics() const override {
    return class_metrics({verbalizer_.labels, config_.metrics, false});
  }
  std::vector<std::string> metric_names() const override { return config_.metrics; }
  std::string default_metric() const override { return config_.metrics[0]; }
  bool larger_is_better(const std::string& metric) const override { return metric != "loss"; }
  Json config() const override { return write_fields(config_); }

 private:
  double target(const Example& example) const {
    const std::string text = text_of(example, label_column_);
    const auto& labels = verbalizer_.labels;
    const auto found = std::find(labels.begin(), labels.end(), text);
    if (found == labels.end()) {
      throw DataError(example.where, "{}: '{}', expected a class of task.verbalizer{}", label_column_, text,
                      did_you_mean(text, labels));
    }
    return static_cast<double>(found - labels.begin());
  }

  PromptConfig config_;
  std::string label_column_;
  bool masked_;
  PromptTemplate prompt_;
  Verbalizer verbalizer_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  auto config = read_fields<PromptConfig>(setup.task, "task");
  if (config.text.empty())
    throw UsageError("task.template", "missing, expected one, for example \"{{text}} It was {{mask}}.\"");
  settle_metrics(config.metrics, false);
  return std::make_unique<PromptTask>(std::move(config), setup);
}

std::vector<FieldHelp> help() { return describe_fields<PromptConfig>("task"); }

}  // namespace

const TaskKind kPromptClassification = {
    .name = "prompt_classification",
    .summary = "a template with a blank, answered by a class's word",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 3.0}, {"batch_size", 32}, {"learning_rate", 4e-4}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
