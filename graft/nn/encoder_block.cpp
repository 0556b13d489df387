#include "graft/nn/encoder_block.h"

#include <ATen/ATen.h>

#include "graft/nn/dropout.h"

namespace graft {

PostNormOutput::PostNormOutput(int64_t in, const EncoderShape& shape)
    : dense_(in, shape.hidden, true), norm_(shape.hidden, shape.eps), dropout_(shape.dropout) {
  add("dense", dense_);
  add("LayerNorm", norm_);
}

Tensor PostNormOutput::forward(const Tensor& x, const Tensor& residual, RandomStream* dropout) const {
  const Tensor output = dropped(dense_.forward(x, dropout), dropout_, dropout);
  const auto norm = [this](const Tensor& y) { return norm_.forward(y); };
  return norm_.added(Sublayer::forward({residual, output, norm}, dropout), residual).normed;
}

EncoderAttention::EncoderAttention(const EncoderShape& shape)
    : query_(shape.hidden, shape.hidden, true),
      key_(shape.hidden, shape.hidden, true),
      value_(shape.hidden, shape.hidden, true),
      heads_(shape.heads) {
  settings_.dropout = shape.attention_dropout;
  add("query", query_);
  add("key", key_);
  add("value", value_);
}

Tensor EncoderAttention::forward(const Tensor& x, const LayerPass& pass) const {
  return attend(project(query_, key_, value_, x, pass, query_.out() / heads_), pass, settings_);
}

EncoderBlock::EncoderBlock(const EncoderShape& shape)
    : attention_(shape),
      attention_output_(shape.hidden, shape),
      intermediate_(shape.hidden, shape.inner, true),
      output_(shape.inner, shape),
      activation_(shape.activation) {
  add("attention.self", attention_);
  add("attention.output", attention_output_);
  add("intermediate.dense", intermediate_);
  add("output", output_);
}

Tensor EncoderBlock::forward(const Tensor& x, const LayerPass& pass) const {
  RandomStream* dropout = pass.batch.dropout;
  const Tensor attended =
      attention_output_.forward(attention_.forward(x, pass), read_rows(x, pass.read), dropout);
  return output_.forward(activation_(intermediate_.forward(attended, dropout)), attended, dropout);
}

EncoderEmbeddings::EncoderEmbeddings(const Shape& shape)
    : word_embeddings(shape.words, shape.width),
      position_embeddings_(shape.positions, shape.width),
      token_type_embeddings_(shape.types, shape.width),
      norm_(shape.width, shape.eps),
      dropout_(shape.dropout),
      first_position_(shape.first_position) {
  add("word_embeddings", word_embeddings);
  add("position_embeddings", position_embeddings_);
  add("token_type_embeddings", token_type_embeddings_);
  add("LayerNorm", norm_);
}

Tensor EncoderEmbeddings::forward(const Batch& batch) const {
  batch.layout.check_positions(position_embeddings_.rows() - first_position_);
  const Tensor& positions = batch.layout.positions;
  const Tensor words = word_embeddings.inputs(batch.input_ids, batch.embeddings);
  const Tensor types = batch.token_type_ids.defined() ? batch.token_type_ids : at::zeros_like(positions);
  const Tensor sum =
      words + token_type_embeddings_.forward(types) +
      position_embeddings_.forward(first_position_ == 0 ? positions : positions + first_position_);
  return dropped(norm_.forward(sum), dropout_, batch.dropout);
}

}  // namespace graft
