// Attention as its definition reads: one sequence after the other, all scores at once, ATen's own
// derivatives.
#include <ATen/ATen.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/ops/attention.h"
#include "graft/ops/philox.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

struct Sequence {
  int64_t query_start, query_length, key_start, key_length;
  /// The last query stands at the last key.
  int64_t first_position() const { return key_length - query_length; }
};

/// [Lq, Lk] int64: key's position minus query's.
Tensor distances(const Sequence& s) {
  const Tensor query = at::arange(s.first_position(), s.key_length, at::kLong);
  return at::arange(s.key_length, at::kLong).unsqueeze(0) - query.unsqueeze(1);
}

/// [Lq, Lk] bool: which keys a query may not see; undefined where it sees all.
Tensor hidden_keys(const Tensor& distance, const AttentionOptions& o) {
  Tensor hidden;
  if (o.causal) hidden = distance > 0;
  if (o.window > 0) {
    const Tensor far = o.causal ? distance <= -o.window : distance.abs() >= o.window;
    hidden = hidden.defined() ? hidden.logical_or(far) : far;
  }
  return hidden;
}

/// [H, Lq, Lk]: 0 or 1 / (1 - p), a function of (key, query row, head, key's place).
Tensor dropout_mask(const Sequence& s, int64_t heads, const AttentionOptions& o) {
  Tensor mask = at::empty({heads, s.query_length, s.key_length}, at::kFloat);
  float* out = mask.data_ptr<float>();
  const uint32_t threshold = drop_threshold(o.dropout);
  const float kept = static_cast<float>(1.0 / (1.0 - o.dropout));
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < s.query_length; ++i) {
      for (int64_t j = 0; j < s.key_length; ++j) {
        const uint32_t word = philox_word(static_cast<uint64_t>(j), static_cast<uint32_t>(s.query_start + i),
                                          static_cast<uint32_t>(h), PhiloxKey(o.key));
        *out++ = word < threshold ? 0.0f : kept;
      }
    }
  }
  return mask;
}

/// One sequence. q [Lq, H, D], k and v [Lk, G, D], all of the compute type → [Lq, H, D].
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Sequence& s,
              const AttentionOptions& o) {
  const int64_t heads = q.size(1), repeat = heads / k.size(1);
  const Tensor key = k.transpose(0, 1).repeat_interleave(repeat, 0);
  const Tensor value = v.transpose(0, 1).repeat_interleave(repeat, 0);
  const double scale = o.scale != 0 ? o.scale : 1.0 / std::sqrt(static_cast<double>(q.size(2)));
  Tensor scores = at::matmul(q.transpose(0, 1), key.transpose(1, 2)) * scale;
  if (o.softcap > 0) scores = at::tanh(scores / o.softcap) * o.softcap;
  const Tensor distance = distances(s);
  if (o.distance_bias.defined()) {
    const int64_t reach = o.distance_bias.size(1) / 2;
    const Tensor column = (distance.clamp(-reach, reach) + reach).flatten();
    scores = scores + o.distance_bias.to(q.scalar_type()).index_select(1, column).view(scores.sizes());
  }
  const Tensor hidden = hidden_keys(distance, o);
  if (hidden.defined()) scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  Tensor weights = scores.softmax(-1);
  if (o.dropout > 0) weights = weights * dropout_mask(s, heads, o).to(weights.scalar_type());
  return at::matmul(weights, value).transpose(0, 1);
}

}  // namespace

Tensor attention_plain(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries,
                       const Spans& keys, const AttentionOptions& options) {
  const auto type = compute_type(q);
  const Tensor wide_q = q.to(type), wide_k = k.to(type), wide_v = v.to(type);
  Tensor out = at::zeros(q.sizes(), q.options());
  std::vector<Tensor> parts, rows;
  for (size_t b = 0; b < queries.lengths.size(); ++b) {
    const Sequence s{queries.starts[b], queries.lengths[b], keys.starts[b], keys.lengths[b]};
    if (s.query_length == 0 || s.key_length == 0) continue;
    if (options.causal && s.key_length < s.query_length) {
      throw InternalError("attention", "sequence {}: {} queries, {} keys, expected at least as many keys", b,
                          s.query_length, s.key_length);
    }
    parts.push_back(attend(wide_q.narrow(0, s.query_start, s.query_length),
                           wide_k.narrow(0, s.key_start, s.key_length),
                           wide_v.narrow(0, s.key_start, s.key_length), s, options));
    rows.push_back(at::arange(s.query_start, s.query_start + s.query_length, at::kLong));
  }
  if (parts.empty()) return out;
  return out.index_copy(0, at::cat(rows), at::cat(parts).to(q.scalar_type()));
}

}  // namespace graft::ops
