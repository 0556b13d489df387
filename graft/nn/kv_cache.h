// Keys and values of what was already read, for generation.
#pragma once
#include <cstdint>
#include <vector>

#include "graft/nn/layout.h"
#include "graft/ops/attention.h"

namespace graft {

/// One buffer a layer: sequence b's keys are rows b · capacity … of [B · capacity, G, D]. Grows by doubling.
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
  int64_t sequences() const { return sequences_; }
  /// Keeps only these sequences, in this order (the finished ones are dropped; one may be taken several
  /// times).
  void select(const std::vector<int64_t>& sequences);

 private:
  void reserve(int64_t layer, int64_t length, const Tensor& like);
  int64_t sequences_, capacity_;
  std::vector<Tensor> keys_, values_;
  std::vector<std::vector<int64_t>> lengths_;  // per layer
  std::vector<int64_t> capacities_;            // per layer
};

}  // namespace graft
