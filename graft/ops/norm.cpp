#include "graft/ops/norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/ops/few_values.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// One call's tensors; x [.., n] contiguous, weights float32, undefined where there are none.
struct Norm {
  Tensor x, residual, weight, bias;
  double eps = 0;
  bool centred = true;
  Tensor sum, y, mean, inverse_deviation;
  Tensor d_y, d_sum, d_x, d_weight, d_bias;  // d_weight, d_bias [threads, n]

  int64_t width() const { return x.size(-1); }
  int64_t rows() const { return width() == 0 ? 0 : x.numel() / width(); }
};

template <class T>
NormRows<T> rows_of(const Norm& norm) {
  NormRows<T> t{};
  t.rows = norm.rows(), t.n = norm.width(), t.eps = static_cast<float>(norm.eps);
  t.x = data<T>(norm.x), t.residual = data<T>(norm.residual), t.sum = writable<T>(norm.sum);
  t.weight = data<float>(norm.weight), t.bias = data<float>(norm.bias);
  t.y = writable<T>(norm.y), t.mean = writable<float>(norm.mean);
  t.inverse_deviation = writable<float>(norm.inverse_deviation);
  t.d_y = data<T>(norm.d_y), t.d_sum = data<T>(norm.d_sum), t.d_x = writable<T>(norm.d_x);
  t.d_weight = writable<float>(norm.d_weight), t.d_bias = writable<float>(norm.d_bias);
  return t;
}

/// The part from row `begin` on; sums over rows go to this thread's own.
template <class T>
NormRows<T> part(NormRows<T> t, int64_t begin, int64_t end) {
  const auto move = [&](auto*& p, int64_t by) { p = p == nullptr ? nullptr : p + by; };
  t.rows = end - begin;
  move(t.x, begin * t.n), move(t.residual, begin * t.n), move(t.sum, begin * t.n), move(t.y, begin * t.n);
  move(t.d_y, begin * t.n), move(t.d_sum, begin * t.n), move(t.d_x, begin * t.n);
  move(t.mean, begin), move(t.inverse_deviation, begin);
  move(t.d_weight, at::get_thread_num() * t.n), move(t.d_bias, at::get_thread_num() * t.n);
  return t;
}

template <class Kernel>
void run(const Norm& norm, const Kernel& kernel) {
  by_type(norm.x, [&]<class T>(T) {
    const NormRows<T> all = rows_of<T>(norm);
    at::parallel_for(0, all.rows, grain(all.n),
                     [&](int64_t begin, int64_t end) { kernel(part(all, begin, end)); });
  });
}

void compute(Norm& norm) {
  norm.y = empty(norm.x.sizes(), norm.x.scalar_type());
  if (norm.residual.defined()) norm.sum = empty(norm.x.sizes(), norm.x.scalar_type());
  if (norm.centred) norm.mean = empty({norm.rows()}, at::kFloat);
  norm.inverse_deviation = empty({norm.rows()}, at::kFloat);
  run(norm, []<class T>(const NormRows<T>& t) { kernels<T>().norm_forward(t); });
}

Norm norm_of(const Tensor& x, const std::optional<Tensor>& residual, const std::optional<Tensor>& weight,
             const std::optional<Tensor>& bias, double eps, bool centred) {
  const auto wide = [](const std::optional<Tensor>& w) {
    return w ? to_type(wants_gradient(*w) ? w->detach() : *w, at::kFloat).contiguous() : Tensor();
  };
  Norm norm;
  norm.x = x.contiguous();
  if (residual) norm.residual = residual->contiguous();
  norm.weight = wide(weight), norm.bias = wide(bias);
  norm.eps = eps, norm.centred = centred;
  return norm;
}

class NormOp : public torch::autograd::Function<NormOp> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& residual,
                               const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                               double eps, bool centred) {
    Norm norm = norm_of(x, residual, weight, bias, eps, centred);
    compute(norm);
    const Tensor& normed = norm.sum.defined() ? norm.sum : norm.x;
    ctx->save_for_backward({normed, norm.weight, norm.mean, norm.inverse_deviation});
    ctx->saved_data["weight_type"] = weight ? static_cast<int64_t>(weight->scalar_type()) : int64_t{0};
    ctx->saved_data["bias_type"] = bias ? static_cast<int64_t>(bias->scalar_type()) : int64_t{0};
    ctx->saved_data["has_residual"] = residual.has_value();
    const auto wants = [](const std::optional<Tensor>& t) { return t && t->requires_grad(); };
    // By name: an input that is not there has no place among needs_input_grad's.
    ctx->saved_data["to_rows"] = x.requires_grad() || wants(residual);
    ctx->saved_data["to_weight"] = wants(weight);
    ctx->saved_data["to_bias"] = wants(bias);
    ctx->set_materialize_grads(false);
    return norm.sum.defined() ? variable_list{norm.y, norm.sum} : variable_list{norm.y};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    Norm norm;
    norm.x = saved[0], norm.weight = saved[1], norm.mean = saved[2], norm.inverse_deviation = saved[3];
    if (gradients.size() > 1 && gradients[1].defined()) norm.d_sum = gradients[1].contiguous();
    const auto noted = [&](const char* name) { return ctx->saved_data[name].toBool(); };
    const auto of_residual = [&](const Tensor& gradient) {
      return noted("has_residual") ? gradient : Tensor();
    };
    if (!gradients[0].defined())
      return {norm.d_sum, of_residual(norm.d_sum), Tensor(), Tensor(), Tensor(), Tensor()};
    norm.d_y = gradients[0].contiguous();
    if (noted("to_rows")) norm.d_x = empty(norm.x.sizes(), norm.x.scalar_type());
    if (noted("to_weight")) norm.d_weight = at::zeros({at::get_num_threads(), norm.width()}, at::kFloat);
    if (noted("to_bias")) norm.d_bias = at::zeros({at::get_num_threads(), norm.width()}, at::kFloat);
    run(norm, []<class T>(const NormRows<T>& t) { kernels<T>().norm_backward(t); });
    const auto whole = [&](const Tensor& partial, const char* type) {
      return partial.defined() ? partial.sum(0).to(static_cast<at::ScalarType>(ctx->saved_data[type].toInt()))
                               : Tensor();
    };
    return {norm.d_x,
            of_residual(norm.d_x),
            whole(norm.d_weight, "weight_type"),
            whole(norm.d_bias, "bias_type"),
            Tensor(),
            Tensor()};
  }
};

void check(const Tensor& x, const Tensor& other, const char* name) {
  if (other.defined() && (other.dim() == 0 || other.size(-1) != x.size(-1))) {
    throw InternalError("norm", "{} of shape {}, rows of {}", name, fmt::join(other.sizes(), "×"),
                        x.size(-1));
  }
}

variable_list normed(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                     double eps, bool centred) {
  check(x, weight, "weight"), check(x, bias, "bias"), check(x, residual, "residual");
  if (!wants_gradient(x) && !wants_gradient(residual) && !wants_gradient(weight) && !wants_gradient(bias)) {
    const at::NoGradGuard no_grad;
    Norm norm = norm_of(x, maybe(residual), maybe(weight), maybe(bias), eps, centred);
    compute(norm);
    return norm.sum.defined() ? variable_list{norm.y, norm.sum} : variable_list{norm.y};
  }
  return NormOp::apply(x, maybe(residual), maybe(weight), maybe(bias), eps, centred);
}

Tensor scaled(Tensor y, const Tensor& weight, const Tensor& bias) {
  if (weight.defined()) y = y * weight.to(y.scalar_type());
  return bias.defined() ? y + bias.to(y.scalar_type()) : y;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  if (!has_kernels(x)) return layer_norm_plain(x, weight, bias, eps);
  return normed(x, {}, weight, bias, eps, true)[0];
}

Tensor layer_norm_plain(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  const Tensor wide = x.to(compute_type(x));
  const Tensor centred = wide - wide.mean(-1, true);
  return scaled(centred * at::rsqrt(centred.square().mean(-1, true) + eps), weight, bias).to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  if (!has_kernels(x)) return rms_norm_plain(x, weight, eps);
  return normed(x, {}, weight, {}, eps, false)[0];
}

Tensor rms_norm_plain(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor wide = x.to(compute_type(x));
  return scaled(wide * at::rsqrt(wide.square().mean(-1, true) + eps), weight, {}).to(x.scalar_type());
}

AddedNorm add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                         double eps) {
  if (!has_kernels(x) || residual.scalar_type() != x.scalar_type())
    return add_layer_norm_plain(x, residual, weight, bias, eps);
  const auto out = normed(x, residual, weight, bias, eps, true);
  return {out[1], out[0]};
}

AddedNorm add_layer_norm_plain(const Tensor& x, const Tensor& residual, const Tensor& weight,
                               const Tensor& bias, double eps) {
  const Tensor sum = x + residual;
  return {sum, layer_norm_plain(sum, weight, bias, eps)};
}

AddedNorm add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  if (!has_kernels(x) || residual.scalar_type() != x.scalar_type())
    return add_rms_norm_plain(x, residual, weight, eps);
  const auto out = normed(x, residual, weight, {}, eps, false);
  return {out[1], out[0]};
}

AddedNorm add_rms_norm_plain(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  const Tensor sum = x + residual;
  return {sum, rms_norm_plain(sum, weight, eps)};
}

}  // namespace graft::ops
