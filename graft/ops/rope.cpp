#include "graft/ops/rope.h"

#include <ATen/ATen.h>

#include "graft/ops/types.h"

namespace graft::ops {

RopeTable rope_table(const Tensor& inverse_frequencies, int64_t positions, double attention_scaling) {
  const Tensor angles = at::outer(at::arange(positions, at::kFloat), inverse_frequencies.to(at::kFloat));
  return {(angles.cos() * attention_scaling).contiguous(), (angles.sin() * attention_scaling).contiguous()};
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  return rope_plain(x, positions, table);
}

Tensor rope_plain(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  const auto type = compute_type(x);
  const int64_t half = table.cos.size(1);
  const Tensor cos = table.cos.index_select(0, positions).to(type).unsqueeze(1);
  const Tensor sin = table.sin.index_select(0, positions).to(type).unsqueeze(1);
  const Tensor first = x.narrow(2, 0, half).to(type), second = x.narrow(2, half, half).to(type);
  const Tensor rest = x.narrow(2, 2 * half, x.size(2) - 2 * half);
  const Tensor turned = at::cat({first * cos - second * sin, second * cos + first * sin}, 2);
  return at::cat({turned.to(x.scalar_type()), rest}, 2);
}

}  // namespace graft::ops
