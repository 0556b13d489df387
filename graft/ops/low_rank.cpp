#include "graft/ops/low_rank.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// y (or nothing) + scale · u · right; `wide` is right [r, n], padded → [T, n] of `type`.
Tensor up(const Tensor& y, const Tensor& u, const Tensor& wide, int64_t n, double scale,
          at::ScalarType type) {
  const int64_t rows = u.size(0);
  Tensor out = empty({rows, n}, type);
  by_type(out, [&]<class T>(T) {
    at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
      kernels<T>().low_rank_up({.rows = end - begin,
                                .n = n,
                                .r = wide.size(0),
                                .y = y.defined() ? data<T>(y) + begin * n : nullptr,
                                .u = data<float>(u) + begin * u.size(1),
                                .u_stride = u.size(1),
                                .scale = static_cast<float>(scale),
                                .right = data<float>(wide),
                                .right_stride = wide.size(1),
                                .result = writable<T>(out) + begin * n});
    });
  });
  return out;
}

Tensor down(const Tensor& x, const Tensor& side, int64_t r) { return low_rank_rows({{x, side, r}})[0]; }
Tensor outer(const Tensor& u, const Tensor& x, int64_t r) { return low_rank_sums({{u, x, r}})[0]; }

class LowRankOp : public torch::autograd::Function<LowRankOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& y, const Tensor& x, const Tensor& a,
                        const Tensor& b, double scale) {
    const Tensor in = x.contiguous(), u = down(in, packed_side(a, true, x.scalar_type()), a.size(0));
    ctx->save_for_backward({in, u, a, b});
    ctx->saved_data["scale"] = scale;
    return up(y.contiguous(), u, padded_lanes(b.t()), b.size(0), scale, y.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &u = saved[1], &a = saved[2], &b = saved[3];
    const Tensor d_y = gradients[0].contiguous();
    const double scale = ctx->saved_data["scale"].toDouble();
    Tensor d_x, d_a, d_b;
    if (ctx->needs_input_grad(3)) d_b = outer(u, d_y, b.size(1)).t().mul(scale);
    if (ctx->needs_input_grad(1) || ctx->needs_input_grad(2)) {
      const Tensor d_u = down(d_y, packed_side(b, false, d_y.scalar_type()), b.size(1));
      if (ctx->needs_input_grad(1)) d_x = up({}, d_u, padded_lanes(a), a.size(1), scale, x.scalar_type());
      if (ctx->needs_input_grad(2)) d_a = outer(d_u, x, a.size(0)).mul(scale);
    }
    return {d_y, d_x, d_a, d_b, Tensor()};
  }
};

/// Rows of pairs of 16-bit values need whole pairs.
bool has_fast_form(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b) {
  const bool even = x.scalar_type() == at::kFloat || (x.size(1) % 2 == 0 && y.size(1) % 2 == 0);
  return has_kernels(x) && y.scalar_type() == x.scalar_type() && a.scalar_type() == at::kFloat &&
         b.scalar_type() == at::kFloat && even && x.size(0) > 0;
}

void check(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b) {
  if (y.dim() != 2 || x.dim() != 2 || y.size(0) != x.size(0) || a.size(1) != x.size(1) ||
      b.size(0) != y.size(1) || a.size(0) != b.size(1)) {
    throw InternalError("low_rank_add",
                        "y {}, x {}, a {}, b {}, expected [T, out], [T, in], [r, in], [out, r]",
                        fmt::join(y.sizes(), "×"), fmt::join(x.sizes(), "×"), fmt::join(a.sizes(), "×"),
                        fmt::join(b.sizes(), "×"));
  }
}

}  // namespace

Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  check(y, x, a, b);
  if (!has_fast_form(y, x, a, b)) return low_rank_add_plain(y, x, a, b, scale);
  return LowRankOp::apply(y, x, a, b, scale);
}

Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale,
                    PackedLowRank& packed) {
  const bool gradient = wants_gradient(y) || wants_gradient(x) || wants_gradient(a) || wants_gradient(b);
  if (gradient || !has_fast_form(y, x, a, b)) return low_rank_add(y, x, a, b, scale);
  check(y, x, a, b);
  const at::NoGradGuard no_grad;
  packed.pack(a, b, scale, x.scalar_type());
  const Tensor u = down(x.contiguous(), packed.down, a.size(0));
  return up(y.contiguous(), u, packed.up, b.size(0), scale, y.scalar_type());
}

Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  const auto type = compute_type(x);
  const Tensor update = at::matmul(at::matmul(x.to(type), a.to(type).t()), b.to(type).t());
  return (y.to(type) + update * scale).to(y.scalar_type());
}

}  // namespace graft::ops
