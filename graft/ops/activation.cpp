#include "graft/ops/activation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Elements a thread takes at least.
constexpr int64_t kGrain = 16384;

template <class T>
const T* shifted(const T* p, int64_t by) {
  return p == nullptr ? nullptr : p + by;
}

Tensor forward(Activation kind, const Tensor& x, const Tensor& up) {
  Tensor y = empty(x.sizes(), x.scalar_type());
  by_type(x, [&]<class T>(T) {
    const T *in = data<T>(x), *gated = data<T>(up);
    T* const out = writable<T>(y);
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      kernels<T>().activate(kind, end - begin, in + begin, shifted(gated, begin), out + begin);
    });
  });
  return y;
}

class ActivationOp : public torch::autograd::Function<ActivationOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& up,
                        int64_t kind) {
    const Tensor in = x.contiguous(), gated = up ? up->contiguous() : Tensor();
    ctx->save_for_backward({in, gated});
    ctx->saved_data["kind"] = kind;
    return ops::forward(static_cast<Activation>(kind), in, gated);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &up = saved[1], d_y = gradients[0].contiguous();
    const auto kind = static_cast<Activation>(ctx->saved_data["kind"].toInt());
    const Tensor d_x = empty(x.sizes(), x.scalar_type()),
                 d_up = up.defined() ? empty(x.sizes(), x.scalar_type()) : Tensor();
    by_type(x, [&]<class T>(T) {
      const T *in = data<T>(x), *gated = data<T>(up), *d_out = data<T>(d_y);
      T *const d_in = writable<T>(d_x), *const d_gated = writable<T>(d_up);
      at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
        kernels<T>().activate_backward(kind, end - begin, in + begin, shifted(gated, begin), d_out + begin,
                                       d_in + begin, d_gated == nullptr ? nullptr : d_gated + begin);
      });
    });
    return {d_x, d_up, Tensor()};
  }
};

}  // namespace

Tensor activate(Activation kind, const Tensor& x) {
  if (!has_kernels(x)) return activate_plain(kind, x);
  if (!wants_gradient(x)) return forward(kind, x.contiguous(), {});
  return ActivationOp::apply(x, std::optional<Tensor>(), static_cast<int64_t>(kind));
}

Tensor activate_plain(Activation kind, const Tensor& x) {
  const Tensor wide = x.to(compute_type(x));
  switch (kind) {
    case Activation::gelu:
      return at::gelu(wide).to(x.scalar_type());
    case Activation::gelu_tanh:
      return at::gelu(wide, "tanh").to(x.scalar_type());
    case Activation::silu:
      return at::silu(wide).to(x.scalar_type());
    case Activation::tanh:
      return at::tanh(wide).to(x.scalar_type());
    case Activation::relu:
      return at::relu(wide).to(x.scalar_type());
  }
  throw InternalError("activate", "unknown kind: {}", static_cast<int>(kind));
}

Tensor activate_gated(Activation kind, const Tensor& gate, const Tensor& up) {
  if (gate.sizes() != up.sizes() || gate.scalar_type() != up.scalar_type()) {
    throw InternalError("activate_gated", "gate {} and up {}, expected one shape and type",
                        fmt::join(gate.sizes(), "×"), fmt::join(up.sizes(), "×"));
  }
  if (!has_kernels(gate)) return activate_gated_plain(kind, gate, up);
  if (!wants_gradient(gate) && !wants_gradient(up)) return forward(kind, gate.contiguous(), up.contiguous());
  return ActivationOp::apply(gate, std::optional<Tensor>(up), static_cast<int64_t>(kind));
}

Tensor activate_gated_plain(Activation kind, const Tensor& gate, const Tensor& up) {
  const auto type = compute_type(gate);
  return (activate_plain(kind, gate.to(type)) * up.to(type)).to(gate.scalar_type());
}

}  // namespace graft::ops
