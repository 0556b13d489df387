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

int64_t lanes(int64_t n) { return (n + 15) / 16 * 16; }

/// u [T, r rounded up to 16] float32 = x [T, n] · right, where right is aᵀ of a [r, n] or b [n, r].
Tensor down(const Tensor& x, const Tensor& side, bool across) {
  const int64_t n = x.size(1), r = across ? side.size(0) : side.size(1), rows = x.size(0);
  Tensor u = at::empty({rows, lanes(r)}, at::kFloat);
  const Tensor narrow = side.to(x.scalar_type()).contiguous();
  by_type(x, [&]<class T>(T) {
    constexpr int64_t depth = 4 / static_cast<int64_t>(sizeof(T));
    const Tensor packed = at::empty({(n + depth - 1) / depth * lanes(r)}, at::kInt);
    (across ? kernels<T>().pack_down : kernels<T>().pack_up)(data<T>(narrow), r, n,
                                                             writable<int32_t>(packed));
    at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
      kernels<T>().low_rank_down(data<T>(x) + begin * n, end - begin, n, data<int32_t>(packed), r,
                                 writable<float>(u) + begin * lanes(r));
    });
  });
  return u;
}

/// right [r, n] with rows padded to whole lanes.
Tensor padded(const Tensor& right) {
  const Tensor out = at::zeros({right.size(0), lanes(right.size(1))}, at::kFloat);
  out.narrow(1, 0, right.size(1)).copy_(right);
  return out;
}

/// y (or nothing) + scale · u · right; right [r, n] float32 → [T, n] of `type`.
Tensor up(const Tensor& y, const Tensor& u, const Tensor& right, double scale, at::ScalarType type) {
  const int64_t rows = u.size(0), n = right.size(1);
  Tensor out = at::empty({rows, n}, type);
  const Tensor wide = padded(right);
  by_type(out, [&]<class T>(T) {
    at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
      kernels<T>().low_rank_up({.rows = end - begin,
                                .n = n,
                                .r = right.size(0),
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

/// uᵀ x [r, n] float32.
Tensor outer(const Tensor& u, const Tensor& x, int64_t r) {
  const int64_t n = x.size(1), blocks = (n + 47) / 48;
  const Tensor sum = at::zeros({r, lanes(n)}, at::kFloat);
  by_type(x, [&]<class T>(T) {
    // Threads take columns, not rows: each element is summed in one order, whatever their number.
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      kernels<T>().low_rank_outer({.rows = x.size(0),
                                   .n = n,
                                   .r = r,
                                   .u = data<float>(u),
                                   .u_stride = u.size(1),
                                   .x = data<T>(x),
                                   .result = writable<float>(sum),
                                   .result_stride = lanes(n),
                                   .first_column = begin * 48,
                                   .last_column = std::min(n, end * 48)});
    });
  });
  return sum.narrow(1, 0, n);
}

class LowRankOp : public torch::autograd::Function<LowRankOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& y, const Tensor& x, const Tensor& a,
                        const Tensor& b, double scale) {
    const Tensor in = x.contiguous(), u = down(in, a, true);
    ctx->save_for_backward({in, u, a, b});
    ctx->saved_data["scale"] = scale;
    return up(y.contiguous(), u, b.t(), scale, y.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &u = saved[1], &a = saved[2], &b = saved[3];
    const Tensor d_y = gradients[0].contiguous();
    const double scale = ctx->saved_data["scale"].toDouble();
    Tensor d_x, d_a, d_b;
    if (ctx->needs_input_grad(3)) d_b = outer(u, d_y, b.size(1)).t().mul(scale);
    if (ctx->needs_input_grad(1) || ctx->needs_input_grad(2)) {
      const Tensor d_u = down(d_y, b, false);
      if (ctx->needs_input_grad(1)) d_x = up({}, d_u, a, scale, x.scalar_type());
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

}  // namespace

Tensor low_rank_add(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  if (y.dim() != 2 || x.dim() != 2 || y.size(0) != x.size(0) || a.size(1) != x.size(1) ||
      b.size(0) != y.size(1) || a.size(0) != b.size(1)) {
    throw InternalError("low_rank_add",
                        "y {}, x {}, a {}, b {}, expected [T, out], [T, in], [r, in], [out, r]",
                        fmt::join(y.sizes(), "×"), fmt::join(x.sizes(), "×"), fmt::join(a.sizes(), "×"),
                        fmt::join(b.sizes(), "×"));
  }
  if (!has_fast_form(y, x, a, b)) return low_rank_add_plain(y, x, a, b, scale);
  return LowRankOp::apply(y, x, a, b, scale);
}

Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  const auto type = compute_type(x);
  const Tensor update = at::matmul(at::matmul(x.to(type), a.to(type).t()), b.to(type).t());
  return (y.to(type) + update * scale).to(y.scalar_type());
}

}  // namespace graft::ops
