// A linear map whose weight is frozen: saves no input; prepacked where the processor multiplies faster so.
#pragma once
#include <ATen/core/Tensor.h>

#include "graft/ops/panel_product.h"

namespace graft::ops {

using at::Tensor;

/// A weight in the layouts that the forward product and the gradient to the input want. Empty until packed;
/// copying shares. A mapped file's pages that it lies in are given back once it is packed.
struct PackedWeight {
  Tensor forward = {};   // opaque
  Tensor backward = {};  // opaque; packed when a gradient is first wanted
  Tensor source = {};    // what it was made from: repacked when the weight is another one, or was written to
  uint32_t version = 0;
  /// One layout in place of two, half of the memory: the gradient's product turns the forward panels as it
  /// goes, some per cent of its time; what is multiplied without panels in float32 is not packed at all.
  bool single = false;
};

/// Whether a weight of its type is multiplied from panels here.
bool in_panels(const Tensor& weight);
/// Whether the weight has a fast form for rows like x whose layouts are units in panels.
bool goes_in_panels(const Tensor& x, const Tensor& weight);
/// The term of d_y W, of a weight in panels.
PanelTerm gradient_term(const Tensor& d_y, const PackedWeight& packed);
/// Which products a weight is packed for.
struct Directions {
  bool forward = true, backward = false;
};
/// Packs what is missing, or was made from another weight.
void pack_weight(PackedWeight& packed, const Tensor& weight, const Tensor& x, Directions wanted);

/// x [T, in], weight [out, in] without gradient, bias [out] (may require gradient) or undefined → [T, out] in
/// x's type. `packed` is filled on the first call. Source form: x Wᵀ + b.
Tensor frozen_linear(const Tensor& x, const Tensor& weight, const Tensor& bias, PackedWeight& packed);

/// Its gradient to the input alone: d_y [T, out] → d_y W [T, in]; for operations that make gradients
/// themselves.
Tensor frozen_linear_gradient(const Tensor& d_y, const Tensor& weight, PackedWeight& packed);

/// The specification, in ATen operations.
Tensor frozen_linear_plain(const Tensor& x, const Tensor& weight, const Tensor& bias);

}  // namespace graft::ops
