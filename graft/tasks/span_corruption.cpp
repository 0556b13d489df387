#include "graft/tasks/span_corruption.h"

#include "graft/base/error.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/span_noise.h"

namespace graft {
namespace {

struct SpanCorruptionConfig {
  std::string name = "span_corruption";
  int64_t max_length = 0;
  double noise_density = 0.15, mean_noise_span_length = 3;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length,
          "ids that the encoder reads, sentinels included; documents are cut to fill it; 0: 512",
          at_least<int64_t>(0));
    visit("noise_density", self.noise_density, "share of the tokens that is hidden", between(0.0, 1.0));
    visit("mean_noise_span_length", self.mean_noise_span_length, "tokens of a hidden span, on average",
          at_least(1.0));
  }
};

class SpanCorruption : public SourceTargetTask {
 public:
  SpanCorruption(SpanCorruptionConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        noise_{config_.noise_density, config_.mean_noise_span_length},
        column_(setup.data.column("text", "text")),
        tokenizer_(setup.tokenizer),
        sentinels_(sentinel_ids(setup.tokenizer)),
        end_(end_token(setup.tokenizer, "span_corruption")),
        seed_(setup.seed),
        length_(noise_.text_length(length_limit(config_.max_length, 0))) {
    if (length_ == 0) {
      throw UsageError("task.max_length", "{}, expected room for two tokens, a sentinel and the end",
                       config_.max_length);
    }
    const int64_t spans = noise_.counts(length_).spans;
    if (spans > static_cast<int64_t>(sentinels_.size())) {
      throw DataError("task",
                      "the tokenizer has {} sentinels (<extra_id_0>, …), expected {} for texts of {} tokens; "
                      "lower task.max_length",
                      sentinels_.size(), spans, length_);
    }
  }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    return text_blocks(examples, tokenizer_, column_, length_);
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t epoch) const override {
    std::vector<SourceTarget> pairs;
    for (const int64_t index : indices) {
      const std::vector<int64_t>& ids = features[static_cast<size_t>(index)].input_ids;
      RandomStream random(seed_, fmt::format("spans {} {}", epoch, index));
      const auto hidden = noise_mask(static_cast<int64_t>(ids.size()), noise_, random);
      pairs.push_back(corrupted(ids, hidden, sentinels_, end_));
    }
    return source_target_batch(pairs, model.info());
  }

  std::string default_metric() const override { return "perplexity"; }
  Json config() const override { return write_fields(config_); }

 private:
  SpanCorruptionConfig config_;
  SpanNoise noise_;
  std::string column_;
  const Tokenizer& tokenizer_;
  std::vector<int64_t> sentinels_;
  int64_t end_;
  uint64_t seed_;
  int64_t length_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<SpanCorruption>(read_fields<SpanCorruptionConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<SpanCorruptionConfig>("task"); }

}  // namespace

const TaskKind kSpanCorruption = {
    .name = "span_corruption",
    .summary = "hidden spans of plain text, written by an encoder-decoder",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 1.0}, {"batch_size", 32}, {"learning_rate", 1e-3}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
