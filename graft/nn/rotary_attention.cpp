#include "graft/nn/rotary_attention.h"

#include <ATen/ATen.h>

namespace graft {

RotaryAttention::RotaryAttention(const Shape& shape, const Rotary& rotary, const AttentionSettings& settings)
    : q_proj_(shape.hidden, shape.heads * shape.head_dim, shape.bias),
      k_proj_(shape.hidden, shape.kv_heads * shape.head_dim, shape.bias),
      v_proj_(shape.hidden, shape.kv_heads * shape.head_dim, shape.bias),
      o_proj_(shape.heads * shape.head_dim, shape.hidden, shape.output_bias),
      rotary_(rotary),
      head_dim_(shape.head_dim),
      settings_(settings) {
  add("q_proj", q_proj_);
  add("k_proj", k_proj_);
  add("v_proj", v_proj_);
  add("o_proj", o_proj_);
}

Tensor RotaryAttention::forward(const Tensor& x, const LayerPass& pass) const {
  RandomStream* dropout = pass.batch.dropout;
  const auto split = [&](const Tensor& y) { return y.view({y.size(0), y.size(1) / head_dim_, head_dim_}); };
  const Tensor q = split(q_proj_.forward(pass.query_input(x), dropout));
  const Tensor k = split(k_proj_.forward(x, dropout));
  const Tensor v = split(v_proj_.forward(x, dropout));
  const Projections rotated{rotary_.apply(q, pass.query_positions()), rotary_.apply(k, pass.layout.positions),
                            v};
  return o_proj_.forward(attend(rotated, pass, settings_), dropout);
}

}  // namespace graft
