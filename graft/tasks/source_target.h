// What tasks for encoder-decoders share: a text that is read, a text that is written, packed side by side.
#pragma once
#include <string>
#include <vector>

#include "graft/base/random.h"
#include "graft/tasks/registry.h"
#include "graft/tasks/task.h"
#include "graft/tasks/token_loss.h"

namespace graft {

/// Ids of one example, both with their end token.
struct SourceTarget {
  std::vector<int64_t> source, target;
};

/// The encoder gets the sources; the decoder gets each target behind the model's start token, without the
/// target's last id, and every one of its rows is labelled with the id that follows. Errors: InternalError
/// (an empty source or target).
TaskBatch source_target_batch(const std::vector<SourceTarget>& pairs, const ModelInfo& info);

/// The end token of a tokenizer. Errors: DataError naming `task` where it has none.
int64_t end_token(const Tokenizer& tokenizer, const std::string& task);

/// Answers of tasks whose target is written by a decoder that reads the source through cross-attention.
class SourceTargetTask : public TokenTask {
 public:
  HeadKind head() const override { return HeadKind::seq2seq_lm; }
};

/// Tasks that make source and target out of blocks of plain text, anew in each epoch. Documents are read as
/// ids without special tokens and cut into blocks; blocks of one token are left out. Errors: DataError where
/// nothing is left.
class TextBlockTask : public SourceTargetTask {
 public:
  struct Blocks {
    std::string task;    // its name, in errors
    std::string stream;  // of random numbers
    int64_t length;      // tokens a block
  };
  /// Errors: DataError where the tokenizer has no end token.
  TextBlockTask(const TaskSetup& setup, Blocks blocks);
  std::vector<Features> features(const std::vector<Example>& examples) const override;
  TaskBatch collate(const std::vector<Features>& features, const std::vector<int64_t>& indices,
                    const Model& model, int64_t epoch) const override;
  std::string default_metric() const override { return "perplexity"; }

 protected:
  /// Source and target of a block of at least two tokens, both with their end token. `random` is the block's
  /// own in this epoch.
  virtual SourceTarget parts(const std::vector<int64_t>& ids, RandomStream& random) const = 0;
  int64_t length() const { return blocks_.length; }
  int64_t end() const { return end_; }

 private:
  Blocks blocks_;
  std::string column_;
  const Tokenizer& tokenizer_;
  int64_t end_;
  uint64_t seed_;
};

}  // namespace graft
