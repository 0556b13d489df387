#include "graft/tasks/masked_lm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/tasks/packing.h"
#include "graft/tasks/token_loss.h"

namespace graft {
namespace {

// Of the chosen tokens: Devlin et al. 2019, section 3.1.
constexpr double kMasked = 0.8;
constexpr double kReplaced = 0.1;

struct MaskedLmConfig {
  std::string name = "masked_lm";
  int64_t max_length = 0;
  double mask_probability = 0.15;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "the task");
    visit("max_length", self.max_length,
          "tokens a block, which longer documents are cut into; 0: 512, or what the model reads",
          at_least<int64_t>(0));
    visit("mask_probability", self.mask_probability, "share of the tokens that are guessed",
          between(0.0, 1.0));
  }
};

class MaskedLm : public TokenTask {
 public:
  MaskedLm(MaskedLmConfig config, const TaskSetup& setup)
      : config_(std::move(config)),
        column_(setup.data.column("text", "text")),
        tokenizer_(setup.tokenizer),
        seed_(setup.seed),
        length_(length_limit(config_.max_length, setup.max_positions)) {
    const auto mask = tokenizer_.mask_id();
    if (!mask) throw DataError("task", "the tokenizer has no mask token, expected one for masked_lm");
    mask_ = *mask;
    for (const auto& id : {tokenizer_.pad_id(), tokenizer_.unk_id(), tokenizer_.cls_id(), tokenizer_.sep_id(),
                           tokenizer_.bos_id(), tokenizer_.eos_id(), tokenizer_.mask_id()}) {
      if (id) special_.insert(*id);
    }
    // What the template puts around a text: found with the empty one.
    wrap_ = tokenizer_.encode({.text = "", .pair = std::nullopt}).ids;
    if (length_ <= static_cast<int64_t>(wrap_.size()))
      throw UsageError("task.max_length", "{}, expected more than {} special tokens", length_, wrap_.size());
  }

  HeadKind head() const override { return HeadKind::masked_lm; }

  std::vector<Features> features(const std::vector<Example>& examples) const override {
    std::vector<TextInput> inputs;
    for (const Example& example : examples)
      inputs.push_back(
          {.text = text_of(example, column_), .pair = std::nullopt, .add_special_tokens = false});
    const std::vector<Encoding> encodings = tokenizer_.encode_batch(inputs);
    const auto room = static_cast<size_t>(length_) - wrap_.size();
    std::vector<Features> out;
    for (size_t i = 0; i < encodings.size(); ++i) {
      const auto& ids = encodings[i].ids;
      for (size_t begin = 0; begin < ids.size(); begin += room) {
        Features block;
        block.example = static_cast<int64_t>(i);
        block.input_ids =
            wrapped({ids.begin() + static_cast<std::ptrdiff_t>(begin),
                     ids.begin() + static_cast<std::ptrdiff_t>(std::min(begin + room, ids.size()))});
        out.push_back(std::move(block));
      }
    }
    if (out.empty() && !examples.empty()) throw DataError(examples[0].where, "no tokens, expected some text");
    return out;
  }

  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t epoch) const override {
    TaskBatch out = pack(features, indices);
    std::vector<int64_t> labels;
    int64_t* ids = out.batch.input_ids.data_ptr<int64_t>();
    for (const int64_t index : indices) {
      RandomStream random(seed_, fmt::format("mask {} {}", epoch, index));
      const auto length = static_cast<int64_t>(features[static_cast<size_t>(index)].input_ids.size());
      mask(ids, length, model.info().vocab_size, random, labels);
      ids += length;
    }
    set_token_labels(out, labels, Prediction::same);
    return out;
  }

  std::string default_metric() const override { return "perplexity"; }
  Json config() const override { return write_fields(config_); }

 private:
  /// The template's tokens around a block: the last one ends it, the others begin it.
  std::vector<int64_t> wrapped(const std::vector<int64_t>& ids) const {
    std::vector<int64_t> out = wrap_;
    const auto at = wrap_.empty() ? out.end() : out.end() - 1;
    out.insert(at, ids.begin(), ids.end());
    return out;
  }

  void mask(int64_t* ids, int64_t length, int64_t vocabulary, RandomStream& random,
            std::vector<int64_t>& labels) const {
    int64_t chosen = 0;
    std::vector<int64_t> candidates;
    const size_t first = labels.size();
    for (int64_t i = 0; i < length; ++i) {
      labels.push_back(kNoLabel);
      if (special_.contains(ids[i])) continue;
      candidates.push_back(i);
      if (random.uniform() >= config_.mask_probability) continue;
      hide(ids, i, vocabulary, random, labels[first + static_cast<size_t>(i)]);
      ++chosen;
    }
    // Every sequence has something to guess, so that no batch is empty.
    if (chosen == 0 && !candidates.empty()) {
      const int64_t i = candidates[random.below(candidates.size())];
      hide(ids, i, vocabulary, random, labels[first + static_cast<size_t>(i)]);
    }
  }

  void hide(int64_t* ids, int64_t i, int64_t vocabulary, RandomStream& random, int64_t& label) const {
    label = ids[i];
    const double draw = random.uniform();
    if (draw < kMasked) {
      ids[i] = mask_;
    } else if (draw < kMasked + kReplaced) {
      ids[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocabulary)));
    }
  }

  MaskedLmConfig config_;
  std::string column_;
  const Tokenizer& tokenizer_;
  uint64_t seed_;
  int64_t length_, mask_ = 0;
  std::set<int64_t> special_;
  std::vector<int64_t> wrap_;
};

std::unique_ptr<Task> create(const TaskSetup& setup) {
  return std::make_unique<MaskedLm>(read_fields<MaskedLmConfig>(setup.task, "task"), setup);
}

std::vector<FieldHelp> help() { return describe_fields<MaskedLmConfig>("task"); }

}  // namespace

const TaskKind kMaskedLm = {
    .name = "masked_lm",
    .summary = "hidden tokens of plain text, guessed from both sides",
    .create = create,
    .help = help,
    .train_defaults = {{"epochs", 1.0}, {"batch_size", 32}, {"learning_rate", 2e-4}, {"warmup_ratio", 0.06}},
};

}  // namespace graft
