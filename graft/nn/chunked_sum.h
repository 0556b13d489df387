// A sum over rows that is made, with its gradient, some rows at a time: what lies between is never there
// whole.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace graft {

using at::Tensor;

/// A number (a scalar tensor) of some of x's rows; `first` is the place of the first of them in x.
using RowsSum = std::function<Tensor(const Tensor& rows, int64_t first)>;

/// The sum of `part` over at most `rows` rows of x [N, …] at a time → scalar. Where gradients are on, those
/// of a chunk (to x and to everything that the part reads, leaf or not) are made right behind its value and
/// added up, so that only they are kept: one backward pass, in which they are multiplied by the sum's own.
Tensor chunked_sum(const RowsSum& part, const Tensor& x, int64_t rows);

}  // namespace graft
