#include "graft/ops/attention.h"

#include <ATen/ATen.h>

namespace graft::ops {

Spans Spans::of(const std::vector<int64_t>& offsets) {
  Spans out;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    out.starts.push_back(offsets[b]);
    out.lengths.push_back(offsets[b + 1] - offsets[b]);
  }
  return out;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Spans& queries, const Spans& keys,
                 const AttentionOptions& options) {
  return attention_plain(q, k, v, queries, keys, options);
}

}  // namespace graft::ops
