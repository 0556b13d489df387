// Numbers of rows that products by oneDNN are made for.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

/// x [T, n] with rows of zeros up to a multiple of 64, where T is above that. oneDNN makes, and keeps, a
/// kernel for each number of rows, and a batch's is another one in each step. Gradients pass.
at::Tensor few_row_counts(const at::Tensor& x);
/// The first of them back: y itself, no view of it, where there are no others.
at::Tensor first_rows(const at::Tensor& y, int64_t rows);

}  // namespace graft::ops
