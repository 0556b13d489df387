// Single rows of the word embedding, trained in place of the base's; a tied head sees them too.
#pragma once
#include "graft/peft/builder.h"

namespace graft {

/// Which rows a set of token indices replaces.
struct TokenRows {
  Tensor indices;  // [n] int64
  Tensor slots;    // [rows of the table] int64: place among the indices, -1 where the base's row stays
  Tensor rows;     // [n, dim], trained
};

class TokenEmbedding : public EmbeddingHook {
 public:
  explicit TokenEmbedding(TokenRows rows) : rows_(std::move(rows)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override;
  std::optional<Tensor> merged(const Embedding& base) const override;

 private:
  TokenRows rows_;
};

/// The head that is tied to such an embedding.
class TokenHead : public LinearHook {
 public:
  explicit TokenHead(TokenRows rows) : rows_(std::move(rows)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 private:
  TokenRows rows_;
};

/// The method of its own: files without `token_adapter.`, the tied modules' copies in them.
extern const TuningMethod kTrainableTokens;

/// LoRA's option `trainable_token_indices`: null, a list (for the word embedding), or {name: list}. Errors:
/// UsageError for an index outside the table, or a name that no embedding has.
void train_tokens(AdapterBuilder& builder, const Json& indices);

}  // namespace graft
