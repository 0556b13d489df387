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

/// The right side of a product with rows of `type` [T, n]: aᵀ of a [r, n] (`across`), or b [n, r].
Tensor packed_side(const Tensor& side, bool across, at::ScalarType type) {
  const int64_t r = side.size(across ? 0 : 1), n = side.size(across ? 1 : 0);
  const Tensor narrow = side.to(type).contiguous();
  Tensor packed;
  by_type(narrow, [&]<class T>(T) {
    constexpr int64_t depth = 4 / static_cast<int64_t>(sizeof(T));
    packed = at::empty({(n + depth - 1) / depth * lanes(r)}, at::kInt);
    (across ? kernels<T>().pack_down : kernels<T>().pack_up)(data<T>(narrow), r, n,
                                                             writable<int32_t>(packed));
  });
  return packed;
}

/// u [T, r rounded up to 16] float32 = x [T, n] · a packed side of r columns.
Tensor down(const Tensor& x, const Tensor& packed, int64_t r) {
  const int64_t n = x.size(1), rows = x.size(0);
  Tensor u = at::empty({rows, lanes(r)}, at::kFloat);
  by_type(x, [&]<class T>(T) {
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

/// y (or nothing) + scale · u · right; `wide` is right [r, n], padded → [T, n] of `type`.
Tensor up(const Tensor& y, const Tensor& u, const Tensor& wide, int64_t n, double scale,
          at::ScalarType type) {
  const int64_t rows = u.size(0);
  Tensor out = at::empty({rows, n}, type);
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
    const Tensor in = x.contiguous(), u = down(in, packed_side(a, true, x.scalar_type()), a.size(0));
    ctx->save_for_backward({in, u, a, b});
    ctx->saved_data["scale"] = scale;
    return up(y.contiguous(), u, padded(b.t()), b.size(0), scale, y.scalar_type());
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
      if (ctx->needs_input_grad(1)) d_x = up({}, d_u, padded(a), a.size(1), scale, x.scalar_type());
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

void pack(PackedLowRank& packed, const Tensor& a, const Tensor& b, at::ScalarType type) {
  const auto fresh = [&](const Tensor& now, const Tensor& before, uint32_t before_version) {
    return !before.defined() || !before.is_same(now) || before_version != version_of(now) ||
           packed.type != type;
  };
  if (fresh(a, packed.a, packed.a_version)) packed.down = packed_side(a, true, type);
  if (fresh(b, packed.b, packed.b_version)) packed.up = padded(b.t());
  packed.a = a, packed.b = b, packed.a_version = version_of(a), packed.b_version = version_of(b);
  packed.type = type;
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
  pack(packed, a, b, x.scalar_type());
  const Tensor u = down(x.contiguous(), packed.down, a.size(0));
  return up(y.contiguous(), u, packed.up, b.size(0), scale, y.scalar_type());
}

Tensor low_rank_add_plain(const Tensor& y, const Tensor& x, const Tensor& a, const Tensor& b, double scale) {
  const auto type = compute_type(x);
  const Tensor update = at::matmul(at::matmul(x.to(type), a.to(type).t()), b.to(type).t());
  return (y.to(type) + update * scale).to(y.scalar_type());
}

}  // namespace graft::ops
