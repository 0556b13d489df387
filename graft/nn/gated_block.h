// The block of LLaMA and its kin: a norm before each part, the parts' outputs added to the stream.
#pragma once
#include <utility>

#include "graft/nn/attention.h"
#include "graft/nn/dropout.h"
#include "graft/nn/gated_mlp.h"
#include "graft/nn/norm.h"
#include "graft/nn/sublayer.h"
#include "graft/ops/few_values.h"

namespace graft {

/// Children self_attn, mlp, input_layernorm, post_attention_layernorm; places attention_adapters,
/// output_adapters. An Attention has `Tensor forward(const Tensor& x, const LayerPass&) const`, [T, hidden] →
/// [T or N, hidden]; an Mlp is made and called as GatedMlp is.
template <class Attention, class Mlp = GatedMlp>
class GatedBlock : public Module {
 public:
  struct Shape {
    GatedMlp::Shape mlp;
    Activation activation;
    double eps;
    double dropout = 0;  // of both parts' outputs
  };
  /// `attention`: what the attention is made from.
  template <class... Args>
  explicit GatedBlock(const Shape& shape, Args&&... attention)
      : attention_(std::forward<Args>(attention)...),
        mlp_(shape.mlp, shape.activation),
        input_norm_(shape.mlp.hidden, shape.eps),
        post_attention_norm_(shape.mlp.hidden, shape.eps),
        dropout_(shape.dropout) {
    add("self_attn", attention_);
    add("mlp", mlp_);
    add("input_layernorm", input_norm_);
    add("post_attention_layernorm", post_attention_norm_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  /// x [T, hidden] → [T, hidden], [N, hidden] where rows are read.
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor residual = read_rows(x, pass.read);
    const Tensor attended = dropped(attention_.forward(input_norm_.forward(x), pass), dropout_, dropout);
    const Tensor joined = attention_output_.forward({residual, attended, {}}, dropout);
    const auto [middle, normed] = post_attention_norm_.added(joined, residual);
    const Tensor fed = dropped(mlp_.forward(normed, dropout), dropout_, dropout);
    return ops::sum(middle, output_.forward({middle, fed, {}}, dropout));
  }

 private:
  Attention attention_;
  Mlp mlp_;
  RmsNorm input_norm_, post_attention_norm_;
  double dropout_;
  Sublayer attention_output_, output_;
};

}  // namespace graft
