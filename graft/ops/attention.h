// Attention over packed rows: each sequence sees only itself (and the keys in front of it).
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace graft::ops {

using at::Tensor;

/// Where each sequence's rows lie: sequence b is rows starts[b] … starts[b] + lengths[b] - 1 (gaps allowed: a
/// cache).
struct Spans {
  std::vector<int64_t> starts, lengths;
  static Spans of(const std::vector<int64_t>& offsets);
};

struct AttentionOptions {
  bool causal = false;
  int64_t window = 0;  // a query sees keys nearer than this (itself: 0); 0: all
  double scale = 0;    // 0: 1/√D
  double softcap =
      0;  // scaled scores become cap · tanh(score / cap) (Gemma 2); 0: none. Has the plain form only
  double dropout =
      0;  // of the weights after softmax; drawn from `key` by counter, so that the backward pass draws again
  uint64_t key = 0;
  Tensor distance_bias =
      {};  // [H, 2R + 1] float32 or undefined: added to the scaled score of a key at position (query's + d),
           // at column clamp(d, -R, R) + R; may require gradient (T5's relative positions)
};

/// softmax(q kᵀ · scale) v within each sequence; the last query stands at the last key (keys may reach
/// further back: prefix, cache). q [T, H, D], k and v [S, G, D] with H a multiple of G → [T, H, D]. Source:
/// Vaswani et al. 2017, eq. 1.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries, const Spans& keys,
                 const AttentionOptions& options);
/// The specification, sequence by sequence in ATen operations.
Tensor attention_plain(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries,
                       const Spans& keys, const AttentionOptions& options);

}  // namespace graft::ops
