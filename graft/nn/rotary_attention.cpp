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
  const Projections rotated = rotary_.apply(project(q_proj_, k_proj_, v_proj_, x, pass, head_dim_), pass);
  return o_proj_.forward(attend(rotated, pass, settings_), pass.batch.dropout);
}

}  // namespace graft
