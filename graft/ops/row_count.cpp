#include "graft/ops/row_count.h"

#include <ATen/ATen.h>

namespace graft::ops {

at::Tensor few_row_counts(const at::Tensor& x) {
  constexpr int64_t kGrain = 64;
  const int64_t rows = x.size(0), missing = (kGrain - rows % kGrain) % kGrain;
  if (x.dim() != 2 || rows <= kGrain || missing == 0) return x;
  return at::constant_pad_nd(x, {0, 0, 0, missing}, 0);
}

at::Tensor first_rows(const at::Tensor& y, int64_t rows) {
  return y.dim() != 2 || y.size(0) == rows ? y : y.narrow(0, 0, rows);
}

}  // namespace graft::ops
