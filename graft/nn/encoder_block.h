// The block of BERT and its kin: attention and feed-forward part, each with a norm after the sum; and the
// embeddings below.
#pragma once
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"
#include "graft/nn/norm.h"
#include "graft/nn/sublayer.h"

namespace graft {

/// Sizes and settings of a block.
struct EncoderShape {
  int64_t hidden = 0, heads = 0, inner = 0;
  Activation activation;
  double eps = 1e-12, dropout = 0, attention_dropout = 0;
};

/// A sublayer's way back to the stream: dense, dropout, sum, norm. Children dense, LayerNorm.
class PostNormOutput : public Sublayer {
 public:
  PostNormOutput(int64_t in, const EncoderShape& shape);
  /// x [T, in], residual [T, hidden] → [T, hidden].
  Tensor forward(const Tensor& x, const Tensor& residual, RandomStream* dropout) const;

 private:
  Linear dense_;
  LayerNorm norm_;
  double dropout_;
};

/// Children query, key, value.
class EncoderAttention : public Module {
 public:
  explicit EncoderAttention(const EncoderShape& shape);
  /// x [T, hidden] → [T, hidden], [N, hidden] where rows are read.
  Tensor forward(const Tensor& x, const LayerPass& pass) const;

 private:
  Linear query_, key_, value_;
  int64_t heads_;
  AttentionSettings settings_;
};

/// Children attention.self, attention.output, intermediate.dense, output.
class EncoderBlock : public Module {
 public:
  explicit EncoderBlock(const EncoderShape& shape);
  Tensor forward(const Tensor& x, const LayerPass& pass) const;

 private:
  EncoderAttention attention_;
  PostNormOutput attention_output_;
  Linear intermediate_;
  PostNormOutput output_;
  Activation activation_;
};

/// Words, learned positions and token types, summed and normed.
class EncoderEmbeddings : public Module {
 public:
  struct Shape {
    int64_t words, positions, types, width;
    double eps, dropout;
    int64_t first_position = 0;  // the table's row of position 0
  };
  explicit EncoderEmbeddings(const Shape& shape);
  /// → [T, width].
  Tensor forward(const Batch& batch) const;

  Embedding word_embeddings;

 private:
  Embedding position_embeddings_, token_type_embeddings_;
  LayerNorm norm_;
  double dropout_;
  int64_t first_position_;
};

}  // namespace graft
