// Self-attention of most decoders: rotated queries and keys, each head's keys shared by several queries.
#pragma once
#include "graft/nn/attention.h"
#include "graft/nn/linear.h"
#include "graft/nn/rotary.h"

namespace graft {

/// Children q_proj, k_proj, v_proj, o_proj.
class RotaryAttention : public Module {
 public:
  struct Shape {
    int64_t hidden, heads, kv_heads, head_dim;
    bool bias = false;         // of the queries', keys' and values' projections
    bool output_bias = false;  // of the output's
  };
  /// `rotary` is the network's own and outlives this.
  RotaryAttention(const Shape& shape, const Rotary& rotary, const AttentionSettings& settings);
  /// x [T, hidden] → [T, hidden], [N, hidden] where rows are read.
  Tensor forward(const Tensor& x, const LayerPass& pass) const;

 private:
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  const Rotary& rotary_;
  int64_t head_dim_;
  AttentionSettings settings_;
};

}  // namespace graft
