// The third place where a method acts: on what a residual sublayer hands to the stream.
#pragma once
#include "graft/nn/module.h"

namespace graft {

class SublayerHook {
 public:
  virtual ~SublayerHook() = default;
  /// in [T, hidden] the sublayer's input, out [T, hidden] its output → what the residual stream receives.
  virtual Tensor forward(const Tensor& in, const Tensor& out) = 0;
};

}  // namespace graft
