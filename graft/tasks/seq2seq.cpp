#include "graft/tasks/seq2seq.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/tasks/answer_judge.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/rouge.h"
#include "graft/tasks/source_target.h"
#include "graft/tasks/span_noise.h"

namespace graft {
namespace {

const std::vector<std::string>& known_metrics() {
  static const std::vector<std::string> names{"rouge1", "rouge2", "rougeL", "rougeLsum", "exact_match"};
  return names;
}

struct Seq2SeqConfig {
  std::string name = "seq2seq", source_prefix, sentinel = "none";
  int64_t max_source_length = 512, max_target_length = 128;
  std::vector<std::string> metrics{"rouge1", "rouge2", "rougeL", "exact_match"};
  bool stemmer = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("source_prefix", self.source_prefix, "text in front of each source (\"summarize: \")");
    visit("max_source_length", self.max_source_length, "longer sources lose their end", at_least<int64_t>(2));
    visit("max_target_length", self.max_target_length,
          "longer targets lose their end; also the most ids that evaluation writes", at_least<int64_t>(2));
    visit(
        "sentinel", self.sentinel,
        "<extra_id_0> in front of the targets (and taken off answers) or of the sources, as a span-corrupted "
        "model knows texts",
        one_of({"none", "target", "source"}));
    visit("metrics", self.metrics,
          "of written answers, in `graft eval` and for the test file: rouge1, rouge2, rougeL, rougeLsum, "
          "exact_match");
    visit("stemmer", self.stemmer, "ROUGE compares Porter's stems");
  }
};

std::string stripped(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

/// The first of `names` that the example has; `otherwise` where it has none.
std::string column_of(const Example& example, const std::vector<std::string>& names,
                      const std::string& otherwise) {
  for (const std::string& name : names) {
    if (example.fields.contains(name)) return name;
  }
  return otherwise;
}

/// Columns as the recipe names them, or as the first example has them.
struct Columns {
  std::string source, target;
  static Columns of(const DataConfig& data, const Example& example) {
    return {data.column("source",
                        column_of(example, {"source", "document", "dialogue", "text", "input", "question"},
                                  "source")),
            data.column("target",
                        column_of(example, {"target", "summary", "output", "answer", "label"}, "target"))};
  }
};

class Seq2SeqTask : public SourceTargetTask, public AnswerJudge {
 public:
  Seq2SeqTask(Seq2SeqConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        data_(setup.data),
        tokenizer_(setup.tokenizer),
        end_(end_token(setup.tokenizer, "seq2seq")) {
    if (config_.sentinel == "none") return;
    const std::vector<int64_t> sentinels = sentinel_ids(tokenizer_);
    if (sentinels.empty())
      throw DataError("task", "the tokenizer has no <extra_id_0>, expected it for task.sentinel {}",
                      config_.sentinel);
    sentinel_ = sentinels[0];
  }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    if (examples.empty()) return {};
    const Columns columns = Columns::of(data_, examples[0]);
    std::vector<TextInput> inputs;
    for (const Example& example : examples) {
      const std::string texts[] = {config_.source_prefix + text_of(example, columns.source),
                                   text_of(example, columns.target)};
      for (const std::string& text : texts)
        inputs.push_back({.text = text, .pair = std::nullopt, .add_special_tokens = false});
    }
    const std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
    std::vector<Features> out(examples.size());
    for (size_t i = 0; i < examples.size(); ++i) {
      out[i].input_ids = ended(encodings[2 * i].ids, config_.max_source_length, config_.sentinel == "source");
      out[i].labels =
          ended(encodings[2 * i + 1].ids, config_.max_target_length, config_.sentinel == "target");
      out[i].example = static_cast<int64_t>(i);
    }
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t) const override {
    std::vector<SourceTarget> pairs;
    for (const int64_t index : indices) {
      const Features& one = features[static_cast<size_t>(index)];
      pairs.push_back({one.input_ids, one.labels});
    }
    return source_target_batch(pairs, model.info());
  }

  int64_t answer_length() const override { return config_.metrics.empty() ? 0 : config_.max_target_length; }
  int64_t end_id() const override { return end_; }

  Judgement judge(const std::vector<Example>& examples,
                  const std::vector<std::vector<int64_t>>& answers) const override {
    Judgement out;
    if (examples.empty()) return out;
    const Columns columns = Columns::of(data_, examples[0]);
    std::vector<double> sums(config_.metrics.size(), 0);
    for (size_t i = 0; i < examples.size(); ++i) {
      const std::string reference = text_of(examples[i], columns.target), text = text_of_answer(answers[i]);
      const RougeScores scores = rouge(reference, text, config_.stemmer);
      for (size_t k = 0; k < sums.size(); ++k)
        sums[k] += value(config_.metrics[k], scores, stripped(reference) == text);
      out.predictions.push_back({{"label", reference}, {"prediction", text}});
    }
    const auto count = static_cast<double>(examples.size());
    for (size_t k = 0; k < sums.size(); ++k) out.values.emplace_back(config_.metrics[k], sums[k] / count);
    return out;
  }

  std::string default_metric() const override { return "loss"; }
  Json config() const override { return write_fields(config_); }

 private:
  std::vector<int64_t> ended(const std::vector<int64_t>& ids, int64_t limit, bool sentinel) const {
    std::vector<int64_t> out;
    if (sentinel) out.push_back(sentinel_);
    const size_t room = static_cast<size_t>(limit) - 1 - out.size();
    out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(room, ids.size())));
    out.push_back(end_);
    return out;
  }

  /// Up to the end token; sentinels in it count as the text that they are, but for the one that targets begin
  /// with.
  std::string text_of_answer(std::vector<int64_t> ids) const {
    ids.erase(std::find(ids.begin(), ids.end(), end_), ids.end());
    if (config_.sentinel == "target" && !ids.empty() && ids[0] == sentinel_) ids.erase(ids.begin());
    return stripped(tokenizer_.decode(ids, false));
  }

  static double value(const std::string& name, const RougeScores& scores, bool exact) {
    if (name == "rouge1") return scores.rouge1.fmeasure;
    if (name == "rouge2") return scores.rouge2.fmeasure;
    if (name == "rougeL") return scores.rougeL.fmeasure;
    if (name == "rougeLsum") return scores.rougeLsum.fmeasure;
    return exact ? 1 : 0;
  }

  Seq2SeqConfig config_;
  DataConfig data_;
  const Tokenizer& tokenizer_;
  int64_t end_, sentinel_ = -1;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  auto config = read_fields<Seq2SeqConfig>(setup.task, "task");
  for (const std::string& name : config.metrics) {
    const auto& known = known_metrics();
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw UsageError("task.metrics", "{}, expected some of rouge1, rouge2, rougeL, rougeLsum, exact_match{}",
                     name, did_you_mean(name, known));
  }
  return std::make_unique<Seq2SeqTask>(std::move(config), setup);
}

std::vector<FieldHelp> help() { return describe_fields<Seq2SeqConfig>("task"); }

}  // namespace

const TaskKind kSeq2Seq = {
    .name = "seq2seq",
    .summary = "a text to a text, with an encoder-decoder",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 3.0}, {"batch_size", 16}, {"learning_rate", 1e-3}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
