// Operations that are often asked for so few values that starting libtorch's costs more than they do: of one
// token's row, of a norm's weight.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// [n] int64.
Tensor whole_numbers(at::IntArrayRef values);
/// x in other sizes, as x.reshape(sizes).
Tensor shaped(const Tensor& x, at::IntArrayRef sizes);
/// x in `type`, as x.to(type); many values are shared among a crew.
Tensor to_type(const Tensor& x, at::ScalarType type);
/// x + y, of one shape and type, rounded once.
Tensor sum(const Tensor& x, const Tensor& y);

}  // namespace graft::ops
