#include "graft/ops/int8_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/base/mapped_pages.h"
#include "graft/ops/panel_product.h"
#include "graft/ops/parallel.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kSteps = 127.0;

int64_t rounded_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

Tensor padded_to(const Tensor& x, int64_t n) { return at::constant_pad_nd(x, {0, n - x.size(-1)}, 0); }

/// Panels of the columns [columns, summed] int8.
Int8Panels panels_of(const Tensor& columns) {
  Int8Panels out;
  out.columns = columns.size(0), out.summed = columns.size(1);
  // Four bytes are one unit, which a panel's packing moves as it would a float.
  const Tensor whole = at::zeros({out.columns, rounded_up(out.summed, 4)}, at::kChar);
  whole.narrow(1, 0, out.summed).copy_(columns);
  out.units = pack_units(whole.view(at::kFloat));
  out.offset =
      padded_to(columns.sum(1, false, at::kInt).mul(128), rounded_up(out.columns, kPanel)).contiguous();
  return out;
}

/// Rows in 8 bits.
struct Rows {
  Tensor q;         // [T, stride] bytes
  Tensor scale;     // [T]
  Tensor outliers;  // [T] of Outliers
  const Outliers* apart(int64_t row) const {
    return reinterpret_cast<const Outliers*>(outliers.const_data_ptr<uint8_t>()) + row;
  }
};

template <class T>
Rows rows_of(const Tensor& x, const Tensor& factor) {
  const int64_t rows = x.size(0), n = x.size(1), stride = rounded_up(n, 64);
  const auto each = static_cast<int64_t>(sizeof(Outliers));
  Rows out{empty({rows, stride}, at::kByte), empty({rows}, at::kFloat), empty({rows, each}, at::kByte)};
  at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
    kernels<T>().rows_to_int8({.rows = end - begin,
                               .n = n,
                               .x = data<T>(x) + begin * n,
                               .factor = data<float>(factor),
                               .outlier = static_cast<float>(kInt8Outlier),
                               .q = writable<uint8_t>(out.q) + begin * stride,
                               .q_stride = stride,
                               .scale = writable<float>(out.scale) + begin,
                               .outliers = const_cast<Outliers*>(out.apart(begin))});
  });
  return out;
}

/// Rounded rows in x's own type: what int8 keeps of them.
Tensor rounded_rows(const Tensor& x) {
  const Tensor threshold = x.abs().mean(1, true).mul(kInt8Outlier);
  const int64_t most = std::min<int64_t>(Outliers::kMost, x.size(1));
  const auto [values, columns] = x.abs().topk(most, 1);
  const Tensor apart = at::zeros_like(x, at::kBool).scatter(1, columns, values.gt(threshold));
  const Tensor kept = x.masked_fill(apart, 0.0);
  const Tensor scale = kept.abs().amax(1, true).div(kSteps);
  const Tensor steps = kept.div(at::where(scale.gt(0), scale, at::ones_like(scale))).round();
  return at::where(apart, x, steps * scale);
}

void pack(PackedInt8& packed, const Tensor& weight, bool backward) {
  const uint32_t version = version_of(weight);
  const bool renewed =
      !packed.source.defined() || !packed.source.is_same(weight) || packed.version != version;
  if (renewed) {
    const Int8Weight rounded = Int8Weight::of(weight);
    packed = {.exact_gradient = packed.exact_gradient,
              .forward = int8_forward_panels(rounded),
              .exact = packed.exact,
              .scale = rounded.scale,
              .source = weight,
              .version = version};
  }
  const bool exact = backward && packed.exact_gradient;
  const bool turned = backward && !exact && !packed.backward.units.defined();
  if (exact && !packed.exact) packed.exact = std::make_shared<PackedWeight>();
  if (turned) packed.backward = int8_backward_panels(Int8Weight::of(weight));
  if (renewed || turned) drop_mapped_pages(weight.const_data_ptr(), weight.nbytes());
}

struct Held : torch::CustomClassHolder {
  PackedInt8 packed;
  Tensor bias;  // a constant, or undefined
};

class Int8LinearOp : public torch::autograd::Function<Int8LinearOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const c10::intrusive_ptr<Held>& held) {
    ctx->saved_data["held"] = c10::IValue::make_capsule(held);
    return int8_product(x, {}, held->packed.forward, held->bias);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<Held>(ctx->saved_data["held"].toCapsule());
    return {int8_linear_gradient(gradients[0], held->packed.source, held->packed), Tensor()};
  }
};

class PlainOp : public torch::autograd::Function<PlainOp> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight) {
    ctx->save_for_backward({weight});
    const Int8Weight rounded = Int8Weight::of(weight);
    const Tensor wide = rounded.q.to(compute_type(x)) * rounded.scale.to(compute_type(x)).unsqueeze(1);
    return at::matmul(rounded_rows(x.to(compute_type(x))), wide.t()).to(x.scalar_type());
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Int8Weight rounded = Int8Weight::of(ctx->get_saved_variables()[0]);
    const auto type = compute_type(gradients[0]);
    const Tensor scaled = gradients[0].to(type) * rounded.scale.to(type);
    return {at::matmul(rounded_rows(scaled), rounded.q.to(type)).to(gradients[0].scalar_type()), Tensor()};
  }
};

}  // namespace

Int8Weight Int8Weight::of(const Tensor& weight) {
  const Tensor wide = weight.detach().to(at::kFloat);
  const Tensor scale = wide.abs().amax(1).div(kSteps);
  const Tensor steps = wide.div(at::where(scale.gt(0), scale, at::ones_like(scale)).unsqueeze(1)).round();
  return {steps.to(at::kChar), scale};
}

Int8Panels int8_forward_panels(const Int8Weight& weight) {
  Int8Panels out = panels_of(weight.q);
  out.w_scale = padded_to(weight.scale, rounded_up(out.columns, kPanel)).contiguous();
  return out;
}

Int8Panels int8_backward_panels(const Int8Weight& weight) { return panels_of(weight.q.t()); }

Tensor int8_product(const Tensor& x, const Tensor& factor, const Int8Panels& panels, const Tensor& bias) {
  const Tensor in = x.contiguous(), added = bias.defined() ? bias.to(x.scalar_type()).contiguous() : bias;
  const Tensor y = empty({x.size(0), panels.columns}, x.scalar_type());
  by_type(x, [&]<class T>(T) {
    const Rows rows = rows_of<T>(in, factor);
    const int64_t depth = (panels.summed + 3) / 4;
    const Panels right{panels.columns, data<int32_t>(panels.units), depth};
    each_panel(x.size(0), {right}, rows.q.size(1), kernels<T>(), [&](size_t, const PanelPiece& p) {
      kernels<T>().int8_product(
          {.rows = p.rows,
           .units = depth,
           .columns = p.columns,
           .x = data<uint8_t>(rows.q) + p.row * rows.q.size(1),
           .x_stride = rows.q.size(1),
           .x_scale = data<float>(rows.scale) + p.row,
           .outliers = rows.apart(p.row),
           .panel = right.units + p.column * depth,
           .offset = data<int32_t>(panels.offset) + p.column,
           .w_scale = panels.w_scale.defined() ? data<float>(panels.w_scale) + p.column : nullptr,
           .bias = added.defined() ? data<T>(added) + p.column : nullptr,
           .y = writable<T>(y) + p.row * panels.columns + p.column,
           .y_stride = panels.columns});
    });
  });
  return y;
}

Tensor int8_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedInt8& packed) {
  if (x.dim() != 2 || weight.dim() != 2 || x.size(1) != weight.size(1)) {
    throw InternalError("int8_linear", "rows {} by a weight of {}, expected [T, in] and [out, in]",
                        fmt::join(x.sizes(), "×"), fmt::join(weight.sizes(), "×"));
  }
  if (!has_kernels(x) || x.size(0) == 0) return int8_linear_plain(x, weight, bias);
  const bool to_input = wants_gradient(x);
  pack(packed, weight, to_input);
  const bool to_bias = wants_gradient(bias);
  auto held = c10::make_intrusive<Held>();
  held->packed = packed;
  if (!to_bias) held->bias = bias;
  const Tensor y = to_input ? Int8LinearOp::apply(x, held) : int8_product(x, {}, packed.forward, held->bias);
  return to_bias ? y + bias.to(x.scalar_type()) : y;
}

Tensor int8_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedInt8& packed) {
  const at::NoGradGuard no_grad;
  pack(packed, weight, true);
  if (packed.exact_gradient) return frozen_linear_gradient(d_y, weight, *packed.exact);
  return int8_product(d_y, packed.scale, packed.backward, {});
}

Tensor int8_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor y = PlainOp::apply(x, weight.detach());
  return bias.defined() ? y + bias.to(x.scalar_type()) : y;
}

}  // namespace graft::ops
