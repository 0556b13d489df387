// Dropout where a batch is trained, nothing where it is not.
#pragma once
#include "graft/base/random.h"
#include "graft/ops/dropout.h"

namespace graft {

using at::Tensor;

/// x where `stream` is null or p is 0.
inline Tensor dropped(const Tensor& x, double p, RandomStream* stream) {
  return stream == nullptr || p <= 0 ? x : ops::dropout(x, p, stream->next_key());
}

}  // namespace graft
