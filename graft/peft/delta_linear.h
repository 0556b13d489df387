// A method that adds a computed matrix to a frozen weight.
#pragma once
#include "graft/nn/linear.h"

namespace graft {

/// W x + b + ΔW dropout(x).
class DeltaLinear : public LinearHook {
 public:
  explicit DeltaLinear(double input_dropout = 0) : input_dropout_(input_dropout) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 protected:
  /// ΔW [out, in]; undefined where the whole update is dropped. `dropout` is null outside training.
  virtual Tensor delta(const Linear& base, RandomStream* dropout) const = 0;

 private:
  double input_dropout_;
};

/// A method whose update is of low rank, its factors computed of what it trains: W x + b + s · up (down
/// dropout(x)).
class FactoredLinear : public LinearHook {
 public:
  explicit FactoredLinear(double scale = 1, double input_dropout = 0)
      : scale_(scale), input_dropout_(input_dropout) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 protected:
  struct Factors {
    Tensor down, up;  // [r, in], [out, r]
  };
  virtual Factors factors(const Linear& base) const = 0;

 private:
  double scale_, input_dropout_;
};

/// A method that maps a linear's input before the frozen weight sees it, and may scale the output: W R(x) ⊙ s
/// + b.
class RotatedLinear : public LinearHook {
 public:
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 protected:
  /// x [T, in] in the method's type → [T, in].
  virtual Tensor rotated(const Tensor& x, RandomStream* dropout) const = 0;
  /// [out], or undefined: ones.
  virtual Tensor output_scale() const { return {}; }
};

}  // namespace graft
