#include "graft/ops/frozen_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/base/mapped_pages.h"
#include "graft/ops/row_count.h"
#include "graft/ops/types.h"

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

/// The number of rows that oneDNN's layouts are made for: one token, or many.
int64_t planned_rows(const Tensor& x) { return std::max<int64_t>(1, x.size(0)); }

/// The weight's columns [columns, summed] as their product wants them: units of panels (32-bit whole
/// numbers), or oneDNN's layout.
Tensor packed_columns(const Tensor& columns, const Tensor& x) {
  return in_panels(columns) ? pack_units(columns.contiguous())
                            : reorder(columns.contiguous(), planned_rows(x));
}

/// term.x by packed columns; biases are constants here.
Tensor product(const PanelTerm& term, int64_t columns, const Tensor& bias) {
  const auto& [x, packed, turned] = term;
  if (packed.scalar_type() == at::kInt) return panel_sums({{{term}, columns, bias}})[0];
  std::optional<Tensor> added;
  if (bias.defined()) added = bias.to(x.scalar_type());
  return first_rows(multiply(few_row_counts(x.contiguous()), packed, added), x.size(0));
}

/// What the gradient needs beside tensors: the weight's layouts.
struct Held : torch::CustomClassHolder {
  PackedWeight packed;
};

class FrozenLinearOp : public torch::autograd::Function<FrozenLinearOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& bias,
                        const c10::intrusive_ptr<Held>& held) {
    ctx->saved_data["held"] = c10::IValue::make_capsule(held);
    if (bias.has_value()) ctx->saved_data["bias_type"] = static_cast<int64_t>(bias->scalar_type());
    return product({x, held->packed.forward}, held->packed.source.size(0),
                   bias.has_value() ? bias->detach() : Tensor());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Tensor& d_y = gradients[0];
    const auto held = c10::static_intrusive_pointer_cast<Held>(ctx->saved_data["held"].toCapsule());
    Tensor d_x, d_bias;
    if (ctx->needs_input_grad(0))
      d_x = product(gradient_term(d_y, held->packed), held->packed.source.size(1), {});
    // An absent bias has no place among the inputs.
    if (ctx->saved_data.count("bias_type") > 0 && ctx->needs_input_grad(1)) {
      d_bias =
          d_y.sum(0, false, at::kFloat).to(static_cast<at::ScalarType>(ctx->saved_data["bias_type"].toInt()));
    }
    return {d_x, d_bias, Tensor()};
  }
};

bool has_fast_form(const Tensor& x, const Tensor& weight) {
  const auto type = x.scalar_type();
  return x.is_cpu() && type == weight.scalar_type() && (type == at::kBFloat16 || type == at::kFloat) &&
         x.numel() > 0 && !weight.requires_grad();
}

/// Whether the weight is multiplied from a layout: in float32 one layout stands for none.
bool is_packed(const Tensor& x, const Tensor& weight, const PackedWeight& packed) {
  const bool plain = packed.single && weight.scalar_type() == at::kFloat && !in_panels(weight);
  return has_fast_form(x, weight) && !plain;
}

Tensor fast_form(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight& packed) {
  const bool to_input = wants_gradient(x), to_bias = wants_gradient(bias);
  pack_weight(packed, weight, x, {.backward = to_input});
  if (!to_input && !to_bias) return product({x, packed.forward}, weight.size(0), bias);
  auto held = c10::make_intrusive<Held>();
  held->packed = packed;
  return FrozenLinearOp::apply(x, maybe(bias), held);
}

}  // namespace

// oneDNN is the faster one for float32 where it has AVX-512, and for
// bfloat16 where it has that and we have no dot products; without AVX-512 it has no form for bfloat16 at
// all.
bool in_panels(const Tensor& weight) {
  static const bool wide = __builtin_cpu_supports("avx512f");
  if (weight.scalar_type() == at::kBFloat16) return !wide || isa().starts_with("avx512");
  return !wide && isa() == avx2::kHalf.isa;
}

bool goes_in_panels(const Tensor& x, const Tensor& weight) {
  return has_fast_form(x, weight) && in_panels(weight);
}

void pack_weight(PackedWeight& packed, const Tensor& weight, const Tensor& x, Directions wanted) {
  const uint32_t version = version_of(weight);
  if (!packed.source.defined() || !packed.source.is_same(weight) || packed.version != version)
    packed = {.source = weight, .version = version, .single = packed.single};
  const bool turns = packed.single && in_panels(weight);
  const bool forward = (wanted.forward || turns) && !packed.forward.defined();
  const bool backward = wanted.backward && !turns && !packed.backward.defined();
  if (forward) packed.forward = packed_columns(weight.detach(), x);
  if (backward) packed.backward = packed_columns(weight.detach().t(), x);
  if (forward || backward) drop_mapped_pages(weight.const_data_ptr(), weight.nbytes());
}

PanelTerm gradient_term(const Tensor& d_y, const PackedWeight& packed) {
  if (packed.backward.defined()) return {d_y, packed.backward};
  return {d_y, packed.forward, true};
}

Tensor frozen_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight& packed) {
  if (weight.dim() != 2 || x.size(-1) != weight.size(1)) {
    throw InternalError("frozen_linear", "rows of {} by a weight of {}, expected [out, in]", x.size(-1),
                        fmt::join(weight.sizes(), "×"));
  }
  if (!is_packed(x, weight, packed)) return frozen_linear_plain(x, weight, bias);
  if (x.dim() == 2) return fast_form(x, weight, bias, packed);
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return fast_form(x.reshape({-1, x.size(-1)}), weight, bias, packed).view(shape);
}

Tensor frozen_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedWeight& packed) {
  const at::NoGradGuard no_grad;
  if (!is_packed(d_y, weight, packed)) return at::matmul(d_y, weight.to(d_y.scalar_type()));
  pack_weight(packed, weight, d_y, {.forward = false, .backward = true});
  return product(gradient_term(d_y, packed), weight.size(1), {});
}

Tensor frozen_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  std::optional<Tensor> added;
  if (bias.defined()) added = bias.to(x.scalar_type());
  return at::linear(x, weight.to(x.scalar_type()), added);
}

}  // namespace graft::ops
