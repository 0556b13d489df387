// Activations of feed-forward blocks, alone and with a gate.
#pragma once
#include <ATen/core/Tensor.h>

#include "graft/ops/kernels.h"

namespace graft::ops {

using at::Tensor;

/// act(x) elementwise in x's type, computed in float32 (float64 for float64). gelu by erf, gelu_tanh by its
/// tanh form (Hendrycks and Gimpel 2016).
Tensor activate(Activation kind, const Tensor& x);
Tensor activate_plain(Activation kind, const Tensor& x);

/// act(gate) · up, of one shape and type: gated feed-forward blocks in one pass. Source: Shazeer 2020.
Tensor activate_gated(Activation kind, const Tensor& gate, const Tensor& up);
Tensor activate_gated_plain(Activation kind, const Tensor& gate, const Tensor& up);

}  // namespace graft::ops
