// Dropout by counter: the mask is a function of (key, element), so that nothing is stored for the backward
// pass.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace graft::ops {

using at::Tensor;

/// x with each element zeroed with probability p, the rest divided by 1 - p; the same key gives the same
/// mask.
Tensor dropout(const Tensor& x, double p, uint64_t key);
Tensor dropout_plain(const Tensor& x, double p, uint64_t key);

}  // namespace graft::ops
