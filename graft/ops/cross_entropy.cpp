#include "graft/ops/cross_entropy.h"

#include <ATen/ATen.h>

#include "graft/ops/types.h"

namespace graft::ops {

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) { return cross_entropy_plain(logits, targets); }

Tensor cross_entropy_plain(const Tensor& logits, const Tensor& targets) {
  return at::nll_loss(at::log_softmax(logits.to(compute_type(logits)), 1), targets, {}, at::Reduction::Sum, -100);
}

}  // namespace graft::ops
