// What this machine can do at best: the limits that a training step is held against.
#pragma once
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>

namespace graft::ops {

/// A product [rows, in] × [in, out].
struct ProductShape {
  int64_t rows, in, out;
};

/// Operations a second (2 · rows · in · out a product), the best of `rounds`: for each type our own product
/// or libtorch's, whichever is faster. Errors: InternalError for another type.
double matrix_rate(at::ScalarType type, const ProductShape& shape, int64_t rounds = 7);

/// Bytes a second that all threads together read from a buffer larger than the caches, the best of `rounds`.
double read_bandwidth(int64_t rounds = 5);

}  // namespace graft::ops
