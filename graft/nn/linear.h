// The first place where a method acts: inside a linear map.
#pragma once
#include <memory>
#include <optional>

#include "graft/base/random.h"
#include "graft/nn/module.h"
#include "graft/ops/adapted_linear.h"
#include "graft/ops/int8_linear.h"

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
  /// All that `forward` adds to the base map, where that is a low-rank update; asked once a pass, in its
  /// place.
  virtual std::optional<ops::LowRankUpdate> update(const Tensor& /*x*/, RandomStream* /*dropout*/) {
    return {};
  }
  /// Whether `update` says it.
  virtual bool is_update() const { return false; }
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
  /// The same of maps that read the same rows, in one pass over these where weights are frozen and hooks are
  /// updates.
  static std::vector<Tensor> forward_together(const std::vector<const Linear*>& maps, const Tensor& x,
                                              RandomStream* dropout);
  /// The base map: prepacked and saving no input where the weight is frozen; through the stand-in where there
  /// is one.
  Tensor apply(const Tensor& x) const;

  /// From now on the frozen weight is packed once, not for each direction (ops::PackedWeight::single).
  void use_one_layout();

  /// From now on the frozen weight is multiplied in 8 bits, whatever its type. `exact_gradient` as in
  /// ops::PackedInt8: the weight is of x's type then.
  struct Int8 {
    bool exact_gradient = false;
  };
  void use_int8(Int8 form);
  /// Nothing: multiplies in the weight's own type.
  std::optional<Int8> int8() const;

  /// Gives a tied map a weight of its own, with the same values.
  void untie();

  /// Whether all that a row takes is the weight's panels, and at most a low-rank update: nothing that would
  /// want threads of its own.
  bool streams() const;

  int64_t in() const { return weight->shape[1]; }
  int64_t out() const { return weight->shape[0]; }

  std::shared_ptr<Parameter> weight;  // [out, in]
  std::shared_ptr<Parameter> bias;    // [out]; null where the map has none
  std::shared_ptr<LinearHook> hook;

 private:
  /// What a pass computes, where it is the frozen weight and at most an update of it.
  std::optional<ops::AdaptedLinear> adapted(const Tensor& x, RandomStream* dropout) const;

  mutable ops::PackedWeight packed_;
  std::unique_ptr<ops::PackedInt8> int8_;  // null: not in 8 bits
};

}  // namespace graft
