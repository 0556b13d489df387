// Loss over a vocabulary or a label set.
#pragma once
#include <ATen/core/Tensor.h>

#include "graft/ops/frozen_linear.h"

namespace graft::ops {

using at::Tensor;

/// Sum over rows of -log softmax(logits)[target], float32 (float64 for float64 logits). logits [N, V],
/// targets [N] int64; a row with target -100 counts nothing. → scalar. Errors: DataError for another target
/// outside [0, V).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets);
Tensor cross_entropy_plain(const Tensor& logits, const Tensor& targets);

/// cross_entropy(hidden Wᵀ + bias, targets) with a frozen weight [V, n] and no bias or a frozen one: chunks
/// of rows at a time, so that logits are never whole; the gradient to `hidden` [N, n] is made on the way.
/// Rows without a target are not multiplied.
Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                            const Tensor& targets, PackedWeight& packed);
Tensor linear_cross_entropy_plain(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                  const Tensor& targets);

}  // namespace graft::ops
