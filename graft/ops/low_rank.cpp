#include "graft/ops/low_rank.h"

#include <ATen/ATen.h>

#include "graft/ops/types.h"

namespace graft::ops {

Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  return low_rank_add_plain(y, x, a, b, scale);
}

Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  const auto type = compute_type(x);
  const Tensor update = at::matmul(at::matmul(x.to(type), a.to(type).t()), b.to(type).t());
  return (y.to(type) + update * scale).to(y.scalar_type());
}

}  // namespace graft::ops
