// The first place where a method acts: inside a linear map.
#pragma once
#include <optional>

#include "graft/base/random.h"
#include "graft/nn/module.h"
#include "graft/ops/frozen_linear.h"

namespace graft {

struct Affine {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out] or undefined
};

class Linear;

/// A method's tensors at one linear.
class LinearHook {
 public:
  virtual ~LinearHook() = default;
  /// x [T, in] → [T, out]; base.apply(x) is the map under the hook. `dropout` is null outside training.
  virtual Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) = 0;
  /// The plain map this amounts to, in float32; nothing where there is none.
  virtual std::optional<Affine> merged(const Linear&) const { return {}; }
};

class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, bool bias);
  /// Shares `weight` with another module (a tied head).
  Linear(std::shared_ptr<Parameter> weight, bool bias);

  /// x [T, in] → [T, out], through the hook where there is one.
  Tensor forward(const Tensor& x, RandomStream* dropout = nullptr) const;
  /// The base map: prepacked and saving no input where the weight is frozen; through the stand-in where there
  /// is one.
  Tensor apply(const Tensor& x) const;

  /// Gives a tied map a weight of its own, with the same values.
  void untie();

  int64_t in() const { return weight->shape[1]; }
  int64_t out() const { return weight->shape[0]; }

  std::shared_ptr<Parameter> weight;  // [out, in]
  std::shared_ptr<Parameter> bias;    // [out]; null where the map has none
  std::shared_ptr<LinearHook> hook;

 private:
  mutable ops::PackedWeight packed_;
};

}  // namespace graft
