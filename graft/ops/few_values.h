// Operations that are often asked for so few values that starting libtorch's costs more than they do: of one
// token's row, of a norm's weight.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// x in `type`, as x.to(type).
Tensor to_type(const Tensor& x, at::ScalarType type);
/// x + y, of one shape and type, rounded once.
Tensor sum(const Tensor& x, const Tensor& y);

}  // namespace graft::ops
