#include "graft/nn/kv_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

#include "graft/base/error.h"
#include "graft/ops/few_values.h"

namespace graft {
namespace {

/// Rows of [.., G, D] from one place to another, of one type. A few bytes a sequence and a layer: no
/// operation of tensors is started for them.
struct RowCopy {
  const Tensor& from;
  const Tensor& to;
  void operator()(int64_t from_row, int64_t to_row, int64_t rows) const {
    const auto row_bytes = static_cast<size_t>(from.size(1) * from.size(2) * from.element_size());
    std::memcpy(
        static_cast<std::byte*>(to.mutable_data_ptr()) + static_cast<size_t>(to_row) * row_bytes,
        static_cast<const std::byte*>(from.const_data_ptr()) + static_cast<size_t>(from_row) * row_bytes,
        static_cast<size_t>(rows) * row_bytes);
  }
};

}  // namespace

KvCache::KvCache(int64_t layers, int64_t sequences, int64_t capacity)
    : capacity_(std::max<int64_t>(capacity, 1)), slots_(static_cast<size_t>(sequences)) {
  std::iota(slots_.begin(), slots_.end(), int64_t{0});
  const auto count = static_cast<size_t>(layers);
  keys_.resize(count);
  values_.resize(count);
  lengths_.assign(count, std::vector<int64_t>(slots_.size(), 0));
  capacities_.assign(count, 0);
}

void KvCache::append(int64_t layer, const Tensor& k, const Tensor& v, const Layout& layout) {
  if (layout.sequences() != sequences()) {
    throw InternalError("cache", "{} sequences, expected {}", layout.sequences(), sequences());
  }
  const auto l = static_cast<size_t>(layer);
  std::vector<int64_t>& lengths = lengths_[l];
  int64_t longest = 0;
  for (size_t b = 0; b < slots_.size(); ++b)
    longest = std::max(longest, lengths[b] + layout.length(static_cast<int64_t>(b)));
  reserve(layer, slots_, longest, k);
  for (const auto& [rows, buffer] : {std::pair(&k, &keys_[l]), std::pair(&v, &values_[l])}) {
    const Tensor source = ops::to_type(*rows, buffer->scalar_type()).contiguous();
    const RowCopy copy{source, *buffer};
    for (size_t b = 0; b < slots_.size(); ++b)
      copy(layout.offsets[b], slots_[b] * capacities_[l] + lengths[b],
           layout.length(static_cast<int64_t>(b)));
  }
  for (size_t b = 0; b < slots_.size(); ++b) lengths[b] += layout.length(static_cast<int64_t>(b));
}

ops::Spans KvCache::spans(int64_t layer) const {
  const auto l = static_cast<size_t>(layer);
  ops::Spans spans;
  for (const int64_t slot : slots_) spans.starts.push_back(slot * capacities_[l]);
  spans.lengths = lengths_[l];
  return spans;
}

int64_t KvCache::length(int64_t b) const {
  return lengths_.empty() ? 0 : lengths_.back()[static_cast<size_t>(b)];
}

void KvCache::select(const std::vector<int64_t>& sequences) {
  std::vector<int64_t> taken, slots;
  for (const int64_t b : sequences) {
    if (b < 0 || b >= this->sequences())
      throw InternalError("cache", "sequence {} of {}", b, this->sequences());
    taken.push_back(slots_[static_cast<size_t>(b)]);
  }
  for (const int64_t b : sequences) {
    int64_t slot = slots_[static_cast<size_t>(b)];
    const bool again = std::find(slots.begin(), slots.end(), slot) != slots.end();
    slots.push_back(again ? free_slot(taken) : slot);
  }
  for (size_t l = 0; l < keys_.size(); ++l) {
    std::vector<int64_t> lengths;
    for (const int64_t b : sequences) lengths.push_back(lengths_[l][static_cast<size_t>(b)]);
    if (keys_[l].defined()) {
      reserve(static_cast<int64_t>(l), slots, 0, keys_[l]);
      for (size_t i = 0; i < slots.size(); ++i) {
        const int64_t from = slots_[static_cast<size_t>(sequences[i])];
        if (slots[i] == from) continue;
        for (const Tensor* buffer : {&keys_[l], &values_[l]})
          RowCopy{*buffer, *buffer}(from * capacities_[l], slots[i] * capacities_[l], lengths[i]);
      }
    }
    lengths_[l] = std::move(lengths);
  }
  slots_ = std::move(slots);
}

void KvCache::add(const KvCache& other) {
  if (other.keys_.size() != keys_.size())
    throw InternalError("cache", "{} layers, expected {}", other.keys_.size(), keys_.size());
  std::vector<int64_t> taken = slots_;
  const size_t own = slots_.size();
  for (size_t i = 0; i < other.slots_.size(); ++i) slots_.push_back(free_slot(taken));
  for (size_t l = 0; l < keys_.size(); ++l) {
    const std::vector<int64_t>& lengths = other.lengths_[l];
    lengths_[l].insert(lengths_[l].end(), lengths.begin(), lengths.end());
    if (!other.keys_[l].defined()) continue;
    reserve(static_cast<int64_t>(l), slots_, *std::max_element(lengths_[l].begin(), lengths_[l].end()),
            other.keys_[l]);
    for (const auto& [from, to] :
         {std::pair(&other.keys_[l], &keys_[l]), std::pair(&other.values_[l], &values_[l])}) {
      const RowCopy copy{*from, *to};
      for (size_t i = 0; i < lengths.size(); ++i)
        copy(other.slots_[i] * other.capacities_[l], slots_[own + i] * capacities_[l], lengths[i]);
    }
  }
}

int64_t KvCache::free_slot(std::vector<int64_t>& taken) const {
  int64_t slot = 0;
  while (std::find(taken.begin(), taken.end(), slot) != taken.end()) ++slot;
  taken.push_back(slot);
  return slot;
}

void KvCache::reserve(int64_t layer, const std::vector<int64_t>& slots, int64_t length, const Tensor& like) {
  const auto l = static_cast<size_t>(layer);
  const int64_t old = capacities_[l], before = old > 0 ? keys_[l].size(0) / old : 0;
  const int64_t wanted = slots.empty() ? 0 : *std::max_element(slots.begin(), slots.end()) + 1;
  if (keys_[l].defined() && length <= old && wanted <= before) return;
  int64_t grown = std::max(length, capacity_);
  if (keys_[l].defined()) grown = length > old ? std::max(length, 2 * old) : old;
  const int64_t count = std::max(wanted, before), heads = like.size(1), dim = like.size(2);
  for (Tensor* buffer : {&keys_[l], &values_[l]}) {
    const Tensor wider = at::zeros({count, grown, heads, dim}, like.options().requires_grad(false));
    if (buffer->defined())
      wider.narrow(0, 0, before).narrow(1, 0, old).copy_(buffer->view({before, old, heads, dim}));
    *buffer = wider.view({count * grown, heads, dim});
  }
  capacities_[l] = grown;
}

}  // namespace graft
