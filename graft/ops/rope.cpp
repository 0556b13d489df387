#include "graft/ops/rope.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// x [T, H, D] turned by each row's angles, forth (direction 1) or back (-1).
Tensor turned(const Tensor& x, const Tensor& positions, const RopeTable& table, float direction) {
  const Tensor in = x.stride(2) == 1 ? x : x.contiguous();
  Tensor out = empty(in.sizes(), in.scalar_type());
  const int64_t half = table.cos.size(1), row = in.size(1) * in.size(2);
  const int64_t* at = positions.const_data_ptr<int64_t>();
  const float *cos = data<float>(table.cos), *sin = data<float>(table.sin);
  by_type(in, [&]<class T>(T) {
    const T* from = data<T>(in);
    T* const to = writable<T>(out);
    const Rotation rotation{in.size(1), in.stride(1), in.size(2), half, direction};
    at::parallel_for(0, in.size(0), grain(row), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        kernels<T>().rotate_row(rotation, from + t * in.stride(0), to + t * row, cos + at[t] * half,
                                sin + at[t] * half);
      }
    });
  });
  return out;
}

class RopeOp : public torch::autograd::Function<RopeOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& positions, const Tensor& cos,
                        const Tensor& sin) {
    ctx->save_for_backward({positions, cos, sin});
    return turned(x, positions, {cos, sin}, 1.0f);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    return {turned(gradients[0], saved[0], {saved[1], saved[2]}, -1.0f), Tensor(), Tensor(), Tensor()};
  }
};

void check(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  if (x.dim() != 3 || positions.numel() != x.size(0) || 2 * table.cos.size(1) > x.size(2)) {
    throw InternalError("rope", "rows {}, {} positions, {} angles, expected [T, H, D], T and at most D / 2",
                        fmt::join(x.sizes(), "×"), positions.numel(), table.cos.size(1));
  }
  if (positions.numel() == 0) return;
  const int64_t* const at = positions.const_data_ptr<int64_t>();
  const auto [low, high] = std::minmax_element(at, at + positions.numel());
  if (*low < 0 || *high >= table.cos.size(0))
    throw InternalError("rope", "position {}, expected less than {}", *high, table.cos.size(0));
}

}  // namespace

RopeTable rope_table(const Tensor& inverse_frequencies, int64_t positions, double attention_scaling) {
  const Tensor angles = at::outer(at::arange(positions, at::kFloat), inverse_frequencies.to(at::kFloat));
  return {(angles.cos() * attention_scaling).contiguous(), (angles.sin() * attention_scaling).contiguous()};
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  if (!has_kernels(x)) return rope_plain(x, positions, table);
  const Tensor rows = positions.contiguous();
  check(x, rows, table);
  return wants_gradient(x) ? RopeOp::apply(x, rows, table.cos, table.sin) : turned(x, rows, table, 1.0f);
}

Tensor rope_plain(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  const auto type = compute_type(x);
  const int64_t half = table.cos.size(1);
  const Tensor cos = table.cos.index_select(0, positions).to(type).unsqueeze(1);
  const Tensor sin = table.sin.index_select(0, positions).to(type).unsqueeze(1);
  const Tensor first = x.narrow(2, 0, half).to(type), second = x.narrow(2, half, half).to(type);
  const Tensor rest = x.narrow(2, 2 * half, x.size(2) - 2 * half);
  const Tensor both = at::cat({first * cos - second * sin, second * cos + first * sin}, 2);
  return at::cat({both.to(x.scalar_type()), rest}, 2);
}

}  // namespace graft::ops
