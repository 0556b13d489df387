// The type that an operation computes in, and why no operation asks twice.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

/// float64 for float64, else float32: sums and statistics of 16-bit values are wider than they are.
inline at::ScalarType compute_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace graft::ops
