#include "graft/ops/int8_linear.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "graft/base/error.h"
#include "graft/base/mapped_pages.h"
#include "graft/ops/few_values.h"
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
class Rows {
 public:
  Rows(int64_t rows, int64_t n)
      : stride(rounded_up(n, 64)),
        scales_at_(rows * stride),
        outliers_at_(rounded_up(scales_at_ + rows * 4, alignof(Outliers))),
        bytes_(empty({outliers_at_ + rows * static_cast<int64_t>(sizeof(Outliers))}, at::kByte)) {}
  const int64_t stride;  // bytes of a row
  uint8_t* row(int64_t i) const { return bytes() + i * stride; }
  float* scale(int64_t i) const { return reinterpret_cast<float*>(bytes() + scales_at_) + i; }
  Outliers* outliers(int64_t i) const { return reinterpret_cast<Outliers*>(bytes() + outliers_at_) + i; }

 private:
  uint8_t* bytes() const { return writable<uint8_t>(bytes_); }
  const int64_t scales_at_, outliers_at_;
  const Tensor bytes_;
};

template <class T>
Rows rows_of(const Tensor& x, const Tensor& factor) {
  const int64_t rows = x.size(0), n = x.size(1);
  const Rows out(rows, n);
  at::parallel_for(0, rows, grain(n), [&](int64_t begin, int64_t end) {
    kernels<T>().rows_to_int8({.rows = end - begin,
                               .n = n,
                               .x = data<T>(x) + begin * n,
                               .factor = data<float>(factor),
                               .outlier = static_cast<float>(kInt8Outlier),
                               .q = out.row(begin),
                               .q_stride = out.stride,
                               .scale = out.scale(begin),
                               .outliers = out.outliers(begin)});
  });
  return out;
}

int64_t depth_of(const Int8Panels& panels) { return (panels.summed + 3) / 4; }

template <class T>
void run_piece(const Rows& rows, const Int8Side& side, const PanelPiece& p, const Tensor& y) {
  const Int8Panels& panels = side.panels;
  const int64_t depth = depth_of(panels);
  T* const result = writable<T>(y) + p.row * panels.columns + p.column;
  kernels<T>().int8_product(
      {.rows = p.rows,
       .units = depth,
       .columns = p.columns,
       .x = rows.row(p.row),
       .x_stride = rows.stride,
       .x_scale = rows.scale(p.row),
       .outliers = rows.outliers(p.row),
       .panel = data<int32_t>(panels.units) + p.column * depth,
       .offset = data<int32_t>(panels.offset) + p.column,
       .w_scale = panels.w_scale.defined() ? data<float>(panels.w_scale) + p.column : nullptr,
       .bias = side.bias.defined() ? data<T>(side.bias) + p.column : nullptr,
       .y = result,
       .y_stride = panels.columns});
  const auto& [low, up, scale] = side.term;
  // A row after the other: a piece's rows lie apart.
  for (int64_t i = 0; low.defined() && i < p.rows; ++i) {
    T* const row = result + i * panels.columns;
    kernels<T>().low_rank_up({.rows = 1,
                              .n = p.columns,
                              .r = up.size(0),
                              .y = row,
                              .u = data<float>(low) + (p.row + i) * low.size(1),
                              .u_stride = low.size(1),
                              .scale = static_cast<float>(scale),
                              .right = data<float>(up) + p.column,
                              .right_stride = up.size(1),
                              .result = row});
  }
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

Tensor int8_product(const Tensor& x, const Tensor& factor, const Int8Panels& panels) {
  return int8_products(x, factor, {{panels}})[0];
}

std::vector<Tensor> forward_products(const Tensor& x, const std::vector<Int8Linear>& maps) {
  std::vector<Int8Side> sides;
  for (const Int8Linear& map : maps) {
    sides.push_back({map.packed->forward, map.bias, map.term});
  }
  return int8_products(x, {}, sides);
}

/// What the gradient needs beside tensors: the weights' layouts.
struct Held : torch::CustomClassHolder {
  std::vector<PackedInt8> list;
};

class Int8LinearOp : public torch::autograd::Function<Int8LinearOp> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const std::vector<Int8Linear>& maps) {
    auto held = c10::make_intrusive<Held>();
    for (const Int8Linear& map : maps) held->list.push_back(*map.packed);
    ctx->saved_data["held"] = c10::IValue::make_capsule(held);
    ctx->set_materialize_grads(false);
    return forward_products(x, maps);
  }
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto held = c10::static_intrusive_pointer_cast<Held>(ctx->saved_data["held"].toCapsule());
    Tensor d_x;
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) continue;
      PackedInt8& packed = held->list[i];
      const Tensor one = int8_linear_gradient(gradients[i], packed.source, packed);
      d_x = d_x.defined() ? d_x.add_(one) : one;
    }
    return {d_x, Tensor()};
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

std::vector<Tensor> int8_products(const Tensor& x, const Tensor& factor, const std::vector<Int8Side>& sides) {
  const Tensor in = x.contiguous();
  std::vector<Int8Side> wanted = sides;
  std::vector<Panels> products;
  std::vector<Tensor> out;
  for (Int8Side& side : wanted) {
    if (side.bias.defined()) side.bias = to_type(side.bias, x.scalar_type()).contiguous();
    products.push_back({side.panels.columns, data<int32_t>(side.panels.units), depth_of(side.panels)});
    out.push_back(empty({x.size(0), side.panels.columns}, x.scalar_type()));
  }
  by_type(x, [&]<class T>(T) {
    const Rows rows = rows_of<T>(in, factor);
    each_panel(x.size(0), products, rows.stride, kernels<T>(),
               [&](size_t i, const PanelPiece& p) { run_piece<T>(rows, wanted[i], p, out[i]); });
  });
  return out;
}

Tensor int8_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedInt8& packed) {
  return int8_linears(x, {{weight, bias, &packed}})[0];
}

std::vector<Tensor> int8_linears(const Tensor& x, const std::vector<Int8Linear>& maps) {
  std::vector<Tensor> out;
  const bool fast = has_kernels(x) && x.size(0) > 0, to_input = wants_gradient(x);
  for (const auto& [weight, bias, packed, term] : maps) {
    if (x.dim() != 2 || weight.dim() != 2 || x.size(1) != weight.size(1)) {
      throw InternalError("int8_linear", "rows {} by a weight of {}, expected [T, in] and [out, in]",
                          fmt::join(x.sizes(), "×"), fmt::join(weight.sizes(), "×"));
    }
    if (fast) pack(*packed, weight, to_input);
    if (!fast) out.push_back(int8_linear_plain(x, weight, bias));
  }
  if (!fast) return out;
  // Asked here: where the operation runs, nothing wants a gradient.
  std::vector<Tensor> trained(maps.size());
  std::vector<Int8Linear> fixed = maps;
  for (size_t i = 0; i < maps.size(); ++i) {
    if (wants_gradient(maps[i].bias)) std::swap(trained[i], fixed[i].bias);
  }
  out = to_input ? Int8LinearOp::apply(x, fixed) : forward_products(x, fixed);
  for (size_t i = 0; i < out.size(); ++i) {
    if (trained[i].defined()) out[i] = out[i] + trained[i].to(x.scalar_type());
  }
  return out;
}

Tensor int8_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedInt8& packed) {
  const at::NoGradGuard no_grad;
  pack(packed, weight, true);
  if (packed.exact_gradient) return frozen_linear_gradient(d_y, weight, *packed.exact);
  return int8_product(d_y, packed.scale, packed.backward);
}

Tensor int8_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor y = PlainOp::apply(x, weight.detach());
  return bias.defined() ? y + bias.to(x.scalar_type()) : y;
}

}  // namespace graft::ops
