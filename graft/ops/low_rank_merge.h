// A weight with low-rank updates merged into it.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

struct MergedWeight {
  Tensor weight;
  /// Of the updates' outputs as the merged weight gives them, before it is rounded, from those of the
  /// factors: the largest; not a number, or infinite, where the weight has such values.
  double difference = 0;
};

/// What is added to a weight: scale · b a, a [r, in], b [out, r].
struct LowRankChange {
  Tensor a, b;
  double scale = 1;
};

/// weight [out, in] + the change in `type`, rounded once; probes [2, in] float32: the inputs whose outputs
/// are compared. Parts of the weight pass through the cache once.
MergedWeight low_rank_merge(const Tensor& weight, const LowRankChange& change, const Tensor& probes,
                            at::ScalarType type);
MergedWeight low_rank_merge_plain(const Tensor& weight, const LowRankChange& change, const Tensor& probes,
                                  at::ScalarType type);

}  // namespace graft::ops
