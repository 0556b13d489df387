// What tasks for encoder-decoders share: a text that is read, a text that is written, packed side by side.
#pragma once
#include <string>
#include <vector>

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

/// Documents of column `column` as ids without special tokens, cut into blocks of `length`; blocks of one
/// token are left out. Errors: DataError where nothing is left.
std::vector<Features> text_blocks(const std::vector<Example>& examples, const Tokenizer& tokenizer,
                                  const std::string& column, int64_t length);

/// Answers of tasks whose target is written by a decoder that reads the source through cross-attention.
class SourceTargetTask : public TokenTask {
 public:
  HeadKind head() const override { return HeadKind::seq2seq_lm; }
};

}  // namespace graft
