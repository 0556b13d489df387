#include "graft/peft/phm_projection.h"

#include <ATen/ATen.h>

namespace graft {

Tensor PhmFactor::value() const { return right.defined() ? at::bmm(left, right) : left; }

Tensor PhmProjection::forward(const Tensor& x) const {
  const Tensor rule = rule_.value(), weight = weight_.value();
  const int64_t n = rule.size(0), in = weight.size(1), out = weight.size(2);
  const Tensor products = at::matmul(rule.reshape({n, n * n}).t(), weight.reshape({n, in * out}));
  const Tensor map = products.view({n, n, in, out}).permute({0, 2, 1, 3}).reshape({n * in, n * out});
  const Tensor y = at::matmul(x, map);
  return bias_.defined() ? y + bias_ : y;
}

}  // namespace graft
