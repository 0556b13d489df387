// A part of a network that keeps no activations: they are computed anew when its gradient is asked for.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "graft/base/random.h"

namespace graft {

using at::Tensor;

/// A part of a network: x and the dropout stream (null: none is dropped) → rows. A function of these and of
/// things that stay as they are until the backward pass.
using Part = std::function<Tensor(const Tensor& x, RandomStream* dropout)>;

/// part(x, dropout), of which only x is kept. Value and gradients (to x and to everything that the part
/// reads, leaf or not) have the same bits as without: the dropout's draws are replayed, and gradients are
/// added up in the same order.
Tensor recomputed(const Part& part, const Tensor& x, RandomStream* dropout);

/// While it lives, so many of every stack's first blocks keep no activations, on this thread (as
/// at::NoGradGuard switches gradients off).
class RecomputeGuard {
 public:
  explicit RecomputeGuard(int64_t blocks);
  ~RecomputeGuard();
  RecomputeGuard(const RecomputeGuard&) = delete;
  RecomputeGuard& operator=(const RecomputeGuard&) = delete;
  /// 0 where no guard lives.
  static int64_t blocks();

 private:
  int64_t before_;
};

}  // namespace graft
