#include "graft/nn/kv_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "graft/base/error.h"

namespace graft {
namespace {

/// The batch's rows behind what each sequence holds. A few bytes a sequence and a layer: no operation of
/// tensors is started for them.
void put(const Tensor& buffer, const Tensor& rows, const Layout& layout, const std::vector<int64_t>& lengths,
         int64_t capacity) {
  const Tensor source = rows.detach().to(buffer.scalar_type()).contiguous();
  const auto row_bytes = static_cast<size_t>(source.size(1) * source.size(2) * source.element_size());
  auto* const to = static_cast<std::byte*>(buffer.mutable_data_ptr());
  const auto* const from = static_cast<const std::byte*>(source.const_data_ptr());
  for (size_t b = 0; b < lengths.size(); ++b) {
    const auto first = static_cast<size_t>(static_cast<int64_t>(b) * capacity + lengths[b]);
    const auto begin = static_cast<size_t>(layout.offsets[b]),
               end = static_cast<size_t>(layout.offsets[b + 1]);
    std::memcpy(to + first * row_bytes, from + begin * row_bytes, (end - begin) * row_bytes);
  }
}

}  // namespace

KvCache::KvCache(int64_t layers, int64_t sequences, int64_t capacity)
    : sequences_(sequences), capacity_(std::max<int64_t>(capacity, 1)) {
  const auto count = static_cast<size_t>(layers);
  keys_.resize(count);
  values_.resize(count);
  lengths_.assign(count, std::vector<int64_t>(static_cast<size_t>(sequences), 0));
  capacities_.assign(count, 0);
}

void KvCache::append(int64_t layer, const Tensor& k, const Tensor& v, const Layout& layout) {
  if (layout.sequences() != sequences_) {
    throw InternalError("cache", "{} sequences, expected {}", layout.sequences(), sequences_);
  }
  const auto l = static_cast<size_t>(layer);
  std::vector<int64_t>& lengths = lengths_[l];
  int64_t longest = 0;
  for (int64_t b = 0; b < sequences_; ++b) {
    longest = std::max(longest, lengths[static_cast<size_t>(b)] + layout.length(b));
  }
  reserve(layer, longest, k);
  put(keys_[l], k, layout, lengths, capacities_[l]);
  put(values_[l], v, layout, lengths, capacities_[l]);
  for (int64_t b = 0; b < sequences_; ++b) lengths[static_cast<size_t>(b)] += layout.length(b);
}

ops::Spans KvCache::spans(int64_t layer) const {
  const auto l = static_cast<size_t>(layer);
  ops::Spans spans;
  for (int64_t b = 0; b < sequences_; ++b) spans.starts.push_back(b * capacities_[l]);
  spans.lengths = lengths_[l];
  return spans;
}

int64_t KvCache::length(int64_t b) const {
  return lengths_.empty() ? 0 : lengths_.back()[static_cast<size_t>(b)];
}

void KvCache::select(const std::vector<int64_t>& sequences) {
  for (const int64_t b : sequences) {
    if (b < 0 || b >= sequences_) throw InternalError("cache", "sequence {} of {}", b, sequences_);
  }
  const Tensor index = at::tensor(sequences, at::kLong);
  const auto count = static_cast<int64_t>(sequences.size());
  for (size_t l = 0; l < keys_.size(); ++l) {
    for (Tensor* buffer : {&keys_[l], &values_[l]}) {
      if (!buffer->defined()) continue;
      const auto sizes = buffer->sizes();
      *buffer = buffer->view({sequences_, capacities_[l], sizes[1], sizes[2]})
                    .index_select(0, index)
                    .view({count * capacities_[l], sizes[1], sizes[2]});
    }
    std::vector<int64_t> lengths;
    for (const int64_t b : sequences) lengths.push_back(lengths_[l][static_cast<size_t>(b)]);
    lengths_[l] = std::move(lengths);
  }
  sequences_ = count;
}

void KvCache::reserve(int64_t layer, int64_t length, const Tensor& like) {
  const auto l = static_cast<size_t>(layer);
  if (keys_[l].defined() && length <= capacities_[l]) return;
  const int64_t old = capacities_[l];
  const int64_t grown = keys_[l].defined() ? std::max(length, 2 * old) : std::max(length, capacity_);
  const auto heads = like.size(1), dim = like.size(2);
  const auto options = like.options().requires_grad(false);
  for (Tensor* buffer : {&keys_[l], &values_[l]}) {
    const Tensor wider = at::zeros({sequences_, grown, heads, dim}, options);
    if (buffer->defined()) wider.narrow(1, 0, old).copy_(buffer->view({sequences_, old, heads, dim}));
    *buffer = wider.view({sequences_ * grown, heads, dim});
  }
  capacities_[l] = grown;
}

}  // namespace graft
