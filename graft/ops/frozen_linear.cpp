#include "graft/ops/frozen_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// oneDNN's layout of a weight, made for products of about this many rows.
Tensor reorder(const Tensor& weight, int64_t rows) {
  using Signature = Tensor(const Tensor&, std::optional<c10::SymInt>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Signature>();
  return operation.call(weight, c10::SymInt(rows));
}

Tensor multiply(const Tensor& x, const Tensor& packed, const std::optional<Tensor>& bias) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return operation.call(x, packed, bias, "none", c10::List<std::optional<at::Scalar>>(), std::nullopt);
}

/// Weights and biases are constants here: no graph is made of packing.
Tensor product(const Tensor& x, const Tensor& packed, const Tensor& bias) {
  std::optional<Tensor> added;
  if (bias.defined()) added = bias.detach().to(x.scalar_type());
  return multiply(x.contiguous(), packed, added);
}

/// The number of rows that layouts are made for: one token, or many.
int64_t planned_rows(const Tensor& x) { return std::max<int64_t>(1, x.numel() / x.size(-1)); }

void pack(PackedWeight& packed, const Tensor& weight, const Tensor& x, bool backward) {
  const uint32_t version = weight.is_inference() ? 0 : static_cast<uint32_t>(weight._version());
  if (!packed.source.defined() || !packed.source.is_same(weight) || packed.version != version) {
    packed = {.forward = reorder(weight.detach(), planned_rows(x)),
              .backward = {},
              .source = weight,
              .version = version};
  }
  if (backward && !packed.backward.defined()) {
    packed.backward = reorder(weight.detach().t().contiguous(), planned_rows(x));
  }
}

class FrozenLinearOp : public torch::autograd::Function<FrozenLinearOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& bias,
                        const Tensor& forward, const Tensor& backward) {
    // An opaque tensor is no variable to save: it travels as plain data.
    if (backward.defined()) ctx->saved_data["backward"] = backward;
    if (bias.has_value()) ctx->saved_data["bias_type"] = static_cast<int64_t>(bias->scalar_type());
    return product(x, forward, bias.value_or(Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor& d_y = gradients[0];
    Tensor d_x, d_bias;
    if (ctx->needs_input_grad(0)) d_x = product(d_y, ctx->saved_data["backward"].toTensor(), {});
    if (ctx->needs_input_grad(1)) {
      d_bias = d_y.flatten(0, -2)
                   .sum(0, false, at::kFloat)
                   .to(static_cast<at::ScalarType>(ctx->saved_data["bias_type"].toInt()));
    }
    return {d_x, d_bias, Tensor(), Tensor()};
  }
};

bool has_fast_form(const Tensor& x, const Tensor& weight) {
  const auto type = x.scalar_type();
  return x.is_cpu() && type == weight.scalar_type() && (type == at::kBFloat16 || type == at::kFloat) &&
         x.numel() > 0 && !weight.requires_grad();
}

}  // namespace

Tensor frozen_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight& packed) {
  if (weight.dim() != 2 || x.size(-1) != weight.size(1)) {
    throw InternalError("frozen_linear", "rows of {} by a weight of {}, expected [out, in]", x.size(-1),
                        fmt::join(weight.sizes(), "×"));
  }
  if (!has_fast_form(x, weight)) return frozen_linear_plain(x, weight, bias);
  const bool to_input = at::GradMode::is_enabled() && x.requires_grad();
  const bool to_bias = at::GradMode::is_enabled() && bias.defined() && bias.requires_grad();
  pack(packed, weight, x, to_input);
  if (!to_input && !to_bias) return product(x, packed.forward, bias);
  std::optional<Tensor> added;
  if (bias.defined()) added = bias;
  return FrozenLinearOp::apply(x, added, packed.forward, to_input ? packed.backward : packed.forward);
}

Tensor frozen_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedWeight& packed) {
  const at::NoGradGuard no_grad;
  if (!has_fast_form(d_y, weight)) return at::matmul(d_y, weight.to(d_y.scalar_type()));
  pack(packed, weight, d_y, true);
  return product(d_y, packed.backward, {});
}

Tensor frozen_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  std::optional<Tensor> added;
  if (bias.defined()) added = bias.to(x.scalar_type());
  return at::linear(x, weight.to(x.scalar_type()), added);
}

}  // namespace graft::ops
