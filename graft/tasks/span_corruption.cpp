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
    visit("noise_density", self.noise_density, "share of the tokens that is hidden", between(0.001, 0.999));
    visit("mean_noise_span_length", self.mean_noise_span_length, "tokens of a hidden span, on average",
          at_least(1.0));
  }
};

SpanNoise noise_of(const SpanCorruptionConfig& config) {
  return {config.noise_density, config.mean_noise_span_length};
}

class SpanCorruption : public TextBlockTask {
 public:
  SpanCorruption(SpanCorruptionConfig config, const TaskSetup& setup)
      : TextBlockTask(setup, {"span_corruption", "spans",
                              noise_of(config).text_length(length_limit(config.max_length, 0))}),
        config_(std::move(config)),
        noise_(noise_of(config_)),
        sentinels_(sentinel_ids(setup.tokenizer)) {
    if (length() == 0) {
      throw UsageError("task.max_length", "{}, expected room for two tokens, a sentinel and the end",
                       config_.max_length);
    }
    const int64_t spans = noise_.counts(length()).spans;
    if (spans > static_cast<int64_t>(sentinels_.size())) {
      throw DataError("task",
                      "the tokenizer has {} sentinels (<extra_id_0>, …), expected {} for texts of {} tokens; "
                      "lower task.max_length",
                      sentinels_.size(), spans, length());
    }
  }
  Json config() const override { return write_fields(config_); }

 protected:
  SourceTarget parts(const std::vector<int64_t>& ids, RandomStream& random) const override {
    return corrupted(ids, noise_mask(static_cast<int64_t>(ids.size()), noise_, random), sentinels_, end());
  }

 private:
  SpanCorruptionConfig config_;
  SpanNoise noise_;
  std::vector<int64_t> sentinels_;
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
