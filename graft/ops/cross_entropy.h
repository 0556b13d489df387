// Loss over a vocabulary or a label set.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// Sum over rows of -log softmax(logits)[target], float32 (float64 for float64 logits). logits [N, V],
/// targets [N] int64; a row with target -100 counts nothing. → scalar. Errors: DataError for another target
/// outside [0, V). Where nobody else has the logits, their gradient comes to lie in their place: one backward
/// pass.
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);
Tensor cross_entropy_plain(const Tensor& logits, const Tensor& targets);

}  // namespace graft::ops
