// Rotates queries and keys by the positions of their rows, from a table that grows with what is read.
#pragma once
#include "graft/nn/attention.h"
#include "graft/nn/rotary_config.h"
#include "graft/ops/rope.h"

namespace graft {

/// One network's, for all of its layers. Where frequencies depend on the length (dynamic, longrope), the
/// longest position of a pass decides for all of its sequences, as in transformers; but earlier, longer
/// passes leave nothing behind here, where they do in transformers' dynamic.
class Rotary {
 public:
  /// Errors: DataError where the configuration does not fit `head_dim`.
  Rotary(const RotaryConfig& config, int64_t head_dim);
  /// Queries and keys rotated, values as they are.
  Projections apply(const Projections& projections, const LayerPass& pass) const;
  /// Covers the positions of `layout`; stays as it is until the next call.
  const ops::RopeTable& table(const Layout& layout) const;

 private:
  RotaryConfig config_;
  int64_t rotated_;
  mutable int64_t length_;  // the frequency_length of the table
  mutable ops::RopeTable table_;
};

}  // namespace graft
