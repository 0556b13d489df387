#include "graft/tasks/token_classification.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "graft/base/error.h"
#include "graft/ops/cross_entropy.h"
#include "graft/tasks/entity_scores.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/token_loss.h"
#include "graft/tasks/word_pieces.h"

namespace graft {
namespace {

/// The first piece of a word whose label nobody knows.
constexpr int64_t kUnlabelled = -1;

const std::vector<std::string> kMetrics{"f1", "precision", "recall", "accuracy"};

struct TokenConfig {
  std::string name = "token_classification";
  int64_t max_length = 0;
  std::vector<std::string> labels;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length, "longer sentences lose their end; 0: 512, or what the model reads",
          at_least<int64_t>(0));
    visit("labels", self.labels,
          "the tags, in the order of the outputs; empty: O and those of the training data, sorted");
  }
};

std::vector<std::string> list_under(const Example& example, const std::string& column) {
  std::vector<std::string> out;
  const auto found = example.fields.find(column);
  if (found == example.fields.end())
    throw DataError(example.where, "no {}, expected a list; name it with data.columns", column);
  try {
    read_value(*found, out, column);
  } catch (const UsageError& error) {
    throw DataError(example.where, "{}", error.what());
  }
  return out;
}

/// Tags of each evaluated sentence, whole spans counted.
class TokenClassMetrics : public Metrics {
 public:
  explicit TokenClassMetrics(std::vector<std::string> labels) : labels_(std::move(labels)) {}

  void add(const TaskBatch& batch, const Tensor& logits) override {
    const Tensor chosen = logits.argmax(1);
    const auto& offsets = batch.batch.layout.offsets;
    int64_t i = 0;
    for (size_t b = 0; b + 1 < offsets.size(); ++b) {
      std::vector<std::string> tags, predicted;
      for (; i < chosen.size(0) && batch.batch.rows[i].item<int64_t>() < offsets[b + 1]; ++i) {
        const int64_t label = batch.labels[i].item<int64_t>();
        predicted.push_back(labels_[static_cast<size_t>(chosen[i].item<int64_t>())]);
        if (label >= 0) tags.push_back(labels_[static_cast<size_t>(label)]);
      }
      const bool labelled = tags.size() == predicted.size();
      predictions_.push_back({{"label", labelled ? Json(tags) : Json(nullptr)}, {"prediction", predicted}});
      if (labelled) count(tags, predicted);
    }
  }
  std::vector<std::pair<std::string, double>> values() const override {
    if (words_ == 0) return {};
    return {{"f1", entities_.f1()},
            {"precision", entities_.precision()},
            {"recall", entities_.recall()},
            {"accuracy", static_cast<double>(right_) / static_cast<double>(words_)}};
  }
  std::vector<Json> predictions() const override { return predictions_; }

 private:
  void count(const std::vector<std::string>& tags, const std::vector<std::string>& predicted) {
    entities_.add(tags, predicted);
    words_ += static_cast<int64_t>(tags.size());
    for (size_t i = 0; i < tags.size(); ++i) right_ += tags[i] == predicted[i];
  }

  std::vector<std::string> labels_;
  EntityCounts entities_;
  int64_t words_ = 0, right_ = 0;
  std::vector<Json> predictions_;
};

class TokenClassification : public Task {
 public:
  TokenClassification(TokenConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        words_column_(setup.data.column("tokens", "tokens")),
        tags_column_(setup.data.column("tags", "tags")),
        pieces_(setup.tokenizer),
        max_length_(length_limit(config_.max_length, setup.max_positions)) {}

  HeadKind head() const override { return HeadKind::token_classification; }
  std::vector<std::string> label_names() const override { return config_.labels; }
  int64_t num_labels() const override { return static_cast<int64_t>(config_.labels.size()); }
  std::string problem_type() const override { return ""; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    std::vector<Features> out;
    for (size_t i = 0; i < examples.size(); ++i) {
      out.push_back(features_of(examples[i]));
      out.back().example = static_cast<int64_t>(i);
    }
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices, const Model&,
                    int64_t) const override {
    TaskBatch out = pack(features, indices);
    std::vector<int64_t> rows, labels;
    for (size_t b = 0; b < indices.size(); ++b) {
      const auto& of_row = features[static_cast<size_t>(indices[b])].labels;
      for (size_t i = 0; i < of_row.size(); ++i) {
        if (of_row[i] == kNoLabel) continue;
        rows.push_back(out.batch.layout.offsets[b] + static_cast<int64_t>(i));
        labels.push_back(of_row[i] == kUnlabelled ? kNoLabel : of_row[i]);
        out.label_units += of_row[i] != kUnlabelled;
      }
    }
    out.batch.rows = at::tensor(rows, at::kLong);
    out.labels = at::tensor(labels, at::kLong);
    return out;
  }

  Result evaluate(Model& model, const Batch& prepared, const TaskBatch& batch) const override {
    const Tensor logits = model.logits(model.run(prepared), prepared);
    return {ops::cross_entropy(logits, batch.labels), logits};
  }

  std::unique_ptr<Metrics> metrics() const override {
    return std::make_unique<TokenClassMetrics>(config_.labels);
  }
  std::vector<std::string> metric_names() const override { return kMetrics; }
  std::string default_metric() const override { return "f1"; }
  bool larger_is_better(const std::string& metric) const override { return metric != "loss"; }
  Json config() const override { return write_fields(config_); }

 private:
  Features features_of(const Example& example) const {
    const std::vector<std::string> words = list_under(example, words_column_);
    const bool labelled = example.fields.contains(tags_column_);
    const std::vector<std::string> tags = labelled ? list_under(example, tags_column_) : words;
    if (tags.size() != words.size())
      throw DataError(example.where, "{} tags for {} words, expected one each", tags.size(), words.size());
    Features out;
    out.target = labelled ? 0 : std::numeric_limits<double>::quiet_NaN();
    out.input_ids = pieces_.before();
    out.labels.assign(out.input_ids.size(), kNoLabel);
    const auto room =
        static_cast<size_t>(max_length_) - std::min(pieces_.after().size(), static_cast<size_t>(max_length_));
    for (size_t i = 0; i < words.size(); ++i) {
      const std::vector<int64_t> ids = pieces_.encode(" " + words[i]).ids;
      if (ids.empty()) throw DataError(example.where, "'{}': no tokens, expected a word", words[i]);
      if (out.input_ids.size() + ids.size() > room) break;
      out.input_ids.insert(out.input_ids.end(), ids.begin(), ids.end());
      out.labels.push_back(labelled ? class_of(tags[i], example) : kUnlabelled);
      out.labels.resize(out.input_ids.size(), kNoLabel);
    }
    if (out.input_ids.size() == pieces_.before().size())
      throw DataError(example.where, "no words, expected at least one that fits in task.max_length");
    out.input_ids.insert(out.input_ids.end(), pieces_.after().begin(), pieces_.after().end());
    out.labels.resize(out.input_ids.size(), kNoLabel);
    return out;
  }

  int64_t class_of(const std::string& tag, const Example& example) const {
    const auto found = std::find(config_.labels.begin(), config_.labels.end(), tag);
    if (found == config_.labels.end())
      throw DataError(example.where, "tag '{}', expected one of task.labels{}", tag,
                      did_you_mean(tag, config_.labels));
    return found - config_.labels.begin();
  }

  TokenConfig config_;
  std::string words_column_, tags_column_;
  WordPieces pieces_;
  int64_t max_length_;
};

std::vector<std::string> labels_in(const TaskSetup& setup) {
  if (!setup.train || setup.train->empty())
    throw UsageError("task.labels",
                     "missing, expected the tags where there is no training data to take them from");
  std::set<std::string> found;
  for (const Example& example : *setup.train) {
    for (const std::string& tag : list_under(example, setup.data.column("tags", "tags"))) found.insert(tag);
  }
  std::vector<std::string> labels{"O"};
  found.erase("O");
  labels.insert(labels.end(), found.begin(), found.end());
  return labels;
}

std::unique_ptr<Task> create(const TaskSetup& setup) {
  auto config = read_fields<TokenConfig>(setup.task, "task");
  if (config.labels.empty()) config.labels = labels_in(setup);
  if (config.labels.size() < 2)
    throw UsageError("task.labels", "{} tags, expected 2 or more", config.labels.size());
  return std::make_unique<TokenClassification>(std::move(config), setup);
}

std::vector<FieldHelp> help() { return describe_fields<TokenConfig>("task"); }

}  // namespace

const TaskKind kTokenClassification = {
    .name = "token_classification",
    .summary = "a tag for each word of a sentence",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 3.0}, {"batch_size", 32}, {"learning_rate", 4e-4}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
