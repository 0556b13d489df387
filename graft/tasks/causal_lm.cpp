#include "graft/tasks/causal_lm.h"

#include <algorithm>

#include "graft/base/error.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/token_loss.h"

namespace graft {
namespace {

struct CausalLmConfig {
  std::string name = "causal_lm";
  int64_t max_length = 0;
  bool end_documents = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length,
          "tokens a block, which longer documents are cut into; 0: 512, or what the model reads",
          at_least<int64_t>(0));
    visit("end_documents", self.end_documents, "the tokenizer's end-of-sequence token follows each document");
  }
};

class CausalLm : public TokenTask {
 public:
  CausalLm(CausalLmConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        column_(setup.data.column("text", "text")),
        tokenizer_(setup.tokenizer),
        block_(length_limit(config_.max_length, setup.max_positions)) {
    if (block_ < 2) throw UsageError("task.max_length", "{}, expected at least 2", block_);
  }

  HeadKind head() const override { return HeadKind::causal_lm; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    std::vector<TextInput> inputs;
    inputs.reserve(examples.size());
    for (const Example& example : examples)
      inputs.push_back({.text = text_of(example, column_), .pair = std::nullopt});
    std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
    const auto eos = tokenizer_.eos_id();
    std::vector<Features> out;
    for (size_t i = 0; i < encodings.size(); ++i) {
      std::vector<int64_t>& ids = encodings[i].ids;
      if (config_.end_documents && eos && (ids.empty() || ids.back() != *eos)) ids.push_back(*eos);
      add_blocks(out, ids, static_cast<int64_t>(i));
    }
    if (out.empty() && !examples.empty())
      throw DataError(examples[0].where, "no document of two tokens or more, expected some text");
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices, const Model&,
                    int64_t) const override {
    return next_token_batch(features, indices, &Features::input_ids);
  }

  std::string default_metric() const override { return "perplexity"; }
  Json config() const override { return write_fields(config_); }

 private:
  /// A block of one token predicts nothing and is left out.
  void add_blocks(std::vector<Features>& out, const std::vector<int64_t>& ids, int64_t example) const {
    const auto length = static_cast<int64_t>(ids.size());
    for (int64_t begin = 0; begin + 1 < length; begin += block_) {
      Features block;
      block.input_ids.assign(ids.begin() + begin, ids.begin() + std::min(begin + block_, length));
      block.example = example;
      out.push_back(std::move(block));
    }
  }

  CausalLmConfig config_;
  std::string column_;
  const Tokenizer& tokenizer_;
  int64_t block_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<CausalLm>(read_fields<CausalLmConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<CausalLmConfig>("task"); }

}  // namespace

const TaskKind kCausalLm = {
    .name = "causal_lm",
    .summary = "plain text, read from left to right",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 1.0}, {"batch_size", 8}, {"learning_rate", 2e-4}, {"warmup_ratio", 0.03}},
};

}  // namespace graft
