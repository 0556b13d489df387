#include "graft/tasks/prefix_lm.h"

#include "graft/base/error.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/source_target.h"

namespace graft {
namespace {

struct PrefixLmConfig {
  std::string name = "prefix_lm";
  int64_t max_length = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length,
          "tokens a block, which longer documents are cut into and which is split at random; 0: 512",
          at_least<int64_t>(0));
  }
};

class PrefixLm : public SourceTargetTask {
 public:
  PrefixLm(PrefixLmConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        column_(setup.data.column("text", "text")),
        tokenizer_(setup.tokenizer),
        end_(end_token(setup.tokenizer, "prefix_lm")),
        seed_(setup.seed),
        length_(length_limit(config_.max_length, 0)) {
    if (length_ < 2) throw UsageError("task.max_length", "{}, expected at least 2", length_);
  }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    return text_blocks(examples, tokenizer_, column_, length_);
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t epoch) const override {
    std::vector<SourceTarget> pairs;
    for (const int64_t index : indices) {
      const std::vector<int64_t>& ids = features[static_cast<size_t>(index)].input_ids;
      RandomStream random(seed_, fmt::format("prefix {} {}", epoch, index));
      // Both parts have a token at least.
      const auto split = static_cast<std::ptrdiff_t>(1 + random.below(ids.size() - 1));
      SourceTarget pair{{ids.begin(), ids.begin() + split}, {ids.begin() + split, ids.end()}};
      pair.source.push_back(end_);
      pair.target.push_back(end_);
      pairs.push_back(std::move(pair));
    }
    return source_target_batch(pairs, model.info());
  }

  std::string default_metric() const override { return "perplexity"; }
  Json config() const override { return write_fields(config_); }

 private:
  PrefixLmConfig config_;
  std::string column_;
  const Tokenizer& tokenizer_;
  int64_t end_;
  uint64_t seed_;
  int64_t length_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<PrefixLm>(read_fields<PrefixLmConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<PrefixLmConfig>("task"); }

}  // namespace

const TaskKind kPrefixLm = {
    .name = "prefix_lm",
    .summary = "plain text split at random: an encoder-decoder reads the first part and writes the second",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 1.0}, {"batch_size", 32}, {"learning_rate", 1e-3}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
