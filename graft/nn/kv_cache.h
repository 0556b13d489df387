// Keys and values of what was already read, for generation.
#pragma once
#include <cstdint>
#include <vector>

#include "graft/nn/layout.h"
#include "graft/ops/attention.h"

namespace graft {

/// One buffer a layer, [slots · capacity, G, D]: a sequence's keys are the first rows of its slot. Sequences
/// may leave, and others come: the next one takes a slot that was left. Capacities grow by doubling.
class KvCache {
 public:
  KvCache(int64_t layers, int64_t sequences, int64_t capacity);
  /// Appends the batch's rows of one layer (k, v [T, G, D]) behind what each sequence holds.
  void append(int64_t layer, const Tensor& k, const Tensor& v, const Layout& layout);
  const Tensor& keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  const Tensor& values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }
  /// Where each sequence's keys lie in `layer`'s buffer.
  ops::Spans spans(int64_t layer) const;
  /// Tokens held of sequence b by every layer (after a whole forward pass).
  int64_t length(int64_t b) const;
  int64_t sequences() const { return static_cast<int64_t>(slots_.size()); }
  /// Keeps only these sequences, in this order (the finished ones are dropped; one may be taken several
  /// times). What stays is not moved.
  void select(const std::vector<int64_t>& sequences);
  /// Takes another cache's sequences in behind its own. Errors: InternalError (other layers).
  void add(const KvCache& other);

 private:
  /// A slot outside of `taken`, which it joins.
  int64_t free_slot(std::vector<int64_t>& taken) const;
  /// Makes room for all of `slots` (their highest counts), and for `length` rows in each.
  void reserve(int64_t layer, const std::vector<int64_t>& slots, int64_t length, const Tensor& like);
  int64_t capacity_;                           // of a layer's first buffer
  std::vector<int64_t> slots_;                 // each sequence's
  std::vector<Tensor> keys_, values_;          // per layer
  std::vector<std::vector<int64_t>> lengths_;  // per layer, a sequence each
  std::vector<int64_t> capacities_;            // per layer
};

}  // namespace graft
