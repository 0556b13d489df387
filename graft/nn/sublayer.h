// The third place where a method acts: on what a residual sublayer (attention, feed-forward) hands to the
// stream.
#pragma once
#include <functional>
#include <memory>

#include "graft/base/random.h"
#include "graft/nn/module.h"

namespace graft {

/// What a residual sublayer has at hand when its output joins the stream. All [T, hidden].
struct SublayerPass {
  Tensor residual;  // the stream that the output is added to (before the sublayer's own norm, if it has one)
  Tensor output;    // the sublayer's output
  std::function<Tensor(const Tensor&)>
      norm;  // the norm that follows the addition (post-norm families); empty where none follows
};

class SublayerHook {
 public:
  virtual ~SublayerHook() = default;
  /// → [T, hidden]: what the stream receives in place of `output` (the family still adds the residual).
  virtual Tensor forward(const SublayerPass& pass, RandomStream* dropout) = 0;
};

/// A slot in a family's block, found by its path ("bert.encoder.layer.0.output"). Holds no tensors.
class Sublayer : public Module {
 public:
  Tensor forward(const SublayerPass& pass, RandomStream* dropout) const {
    return hook ? hook->forward(pass, dropout) : pass.output;
  }
  std::shared_ptr<SublayerHook> hook;
};

}  // namespace graft
