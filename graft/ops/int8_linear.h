// A linear map with its weight in 8 bits: rows of the input, and of the gradient, go to 8 bits as they come.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "graft/ops/frozen_linear.h"

namespace graft::ops {

using at::Tensor;

/// A value above this many times the mean size of its row's (eight deviations of normal ones) keeps its own
/// precision: the row's scale would leave the others too few steps. Eight a row at the most.
constexpr double kInt8Outlier = 10.0;

/// A weight rounded to 8 bits with one scale an output: weight ≈ scale · q.
struct Int8Weight {
  Tensor q;      // [out, in] int8, -127 … 127
  Tensor scale;  // [out] float32
  static Int8Weight of(const Tensor& weight);
};

/// One side of a product in 8 bits: the columns [columns, summed] of q, in panels.
struct Int8Panels {
  Tensor units;    // int32
  Tensor offset;   // [columns rounded up to 64] int32
  Tensor w_scale;  // likewise float32; undefined: 1
  int64_t columns = 0, summed = 0;
};
/// Of the forward product.
Int8Panels int8_forward_panels(const Int8Weight& weight);
/// The gradient to the input; the weight's scales go into the gradient's rows before these are rounded.
Int8Panels int8_backward_panels(const Int8Weight& weight);

/// scale · low · up, where these are defined: low [T, r in whole lanes], up [r, out in whole lanes] float32.
struct LowRankTerm {
  Tensor low = {}, up = {};
  double scale = 1;
};
struct Int8Side {
  const Int8Panels& panels;
  Tensor bias = {};  // [columns] or undefined
  LowRankTerm term = {};
};
/// x [T, summed] (times `factor` [summed] float32, or undefined), rounded row by row, by each side's panels,
/// plus its bias → [T, columns] of each in x's type, float32 or bfloat16. Terms are added to what was rounded
/// to it, while it is in the first cache; meant for few rows.
std::vector<Tensor> int8_products(const Tensor& x, const Tensor& factor, const std::vector<Int8Side>& sides);

/// A weight in 8 bits, in the layouts that its products want. Empty until packed; copying shares.
struct PackedInt8 {
  /// The gradient to the input by the weight's own type: a vocabulary's logits have many tiny gradients
  /// beside a few large ones, and steps would lose them.
  bool exact_gradient = false;
  Int8Panels forward{};
  Int8Panels backward{};                  // packed when a gradient is first wanted
  std::shared_ptr<PackedWeight> exact{};  // in its place
  Tensor scale{};                         // [out], of the gradient's rows
  Tensor source{};  // what it was made from: repacked when the weight is another one, or was written to
  uint32_t version = 0;
};

/// As frozen_linear, multiplied in 8 bits: x [T, in] float32 or bfloat16 → [T, out] in x's type. A row does
/// not depend on the others. Not a number, or infinite, in a row of x: so is that row of the output.
Tensor int8_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedInt8& packed);

struct Int8Linear {
  Tensor weight = {};  // [out, in] without gradient
  Tensor bias = {};    // [out] or undefined
  PackedInt8* packed = nullptr;
  LowRankTerm term = {};  // without gradient, and only where x has none
};
/// The same of maps that read the same rows, which are rounded once → [T, out] of each.
std::vector<Tensor> int8_linears(const Tensor& x, const std::vector<Int8Linear>& maps);

/// Its gradient to the input alone: d_y [T, out] → [T, in].
Tensor int8_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedInt8& packed);

/// The specification in ATen operations: x and the weight rounded to 8 bits (outliers of x kept), multiplied
/// exactly; the gradient to the input likewise. Sources: Wortsman et al. 2023 (both products in 8 bits),
/// Dettmers et al. 2022 (outliers apart).
Tensor int8_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace graft::ops
