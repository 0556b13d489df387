#include "graft/nn/rotary.h"

#include <algorithm>
#include <bit>

#include "graft/base/error.h"

namespace graft {
namespace {

/// A table's least rows.
constexpr int64_t kLeastRows = 256;

}  // namespace

Rotary::Rotary(const RotaryConfig& config, int64_t head_dim)
    : config_(config),
      rotated_(static_cast<int64_t>(static_cast<double>(head_dim) * config.partial_factor)),
      length_(config.frequency_length(1)) {
  if (rotated_ < 2 || rotated_ % 2 != 0) {
    throw DataError("config.json", "{} rotated dimensions a head, expected an even number", rotated_);
  }
  table_ =
      ops::rope_table(config_.inverse_frequencies(rotated_, length_), kLeastRows, config_.attention_factor);
}

const ops::RopeTable& Rotary::table(const Layout& layout) const {
  const int64_t reach = layout.reach(), length = config_.frequency_length(reach);
  if (length == length_ && table_.cos.size(0) >= reach) return table_;
  // What is for this one length does not grow.
  const auto rows = length == reach ? static_cast<uint64_t>(reach)
                                    : std::bit_ceil(static_cast<uint64_t>(std::max(reach, kLeastRows)));
  table_ = ops::rope_table(config_.inverse_frequencies(rotated_, length), static_cast<int64_t>(rows),
                           config_.attention_factor);
  length_ = length;
  return table_;
}

Projections Rotary::apply(const Projections& projections, const LayerPass& pass) const {
  const ops::RopeTable& turns = table(pass.layout);
  return {ops::rope(projections.q, pass.query_positions(), turns),
          ops::rope(projections.k, pass.layout.positions, turns), projections.v};
}

}  // namespace graft
