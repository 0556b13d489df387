#include "graft/peft/delta_linear.h"

#include <ATen/ATen.h>

#include "graft/ops/dropout.h"
#include "graft/ops/low_rank.h"
#include "graft/peft/builder.h"

namespace graft {
namespace {

Tensor dropped(const Tensor& x, double probability, RandomStream* dropout) {
  return dropout && probability > 0 ? ops::dropout(x, probability, dropout->next_key()) : x;
}

}  // namespace

Tensor DeltaLinear::forward(const Linear& base, const Tensor& x, RandomStream* dropout) {
  const Tensor y = base.apply(x);
  const Tensor added = delta(base, dropout);
  if (!added.defined()) return y;
  const Tensor in = dropped(x, input_dropout_, dropout);
  return y + at::linear(in.to(added.scalar_type()), added).to(y.scalar_type());
}

std::optional<Affine> DeltaLinear::merged(const Linear& base) const {
  return Affine{widened(base.weight->value()) + delta(base, nullptr),
                base.bias ? widened(base.bias->value()) : Tensor()};
}

Tensor FactoredLinear::forward(const Linear& base, const Tensor& x, RandomStream* dropout) {
  const auto [down, up] = factors(base);
  return ops::low_rank_add(base.apply(x), dropped(x, input_dropout_, dropout), down, up, scale_);
}

std::optional<Affine> FactoredLinear::merged(const Linear& base) const {
  const auto [down, up] = factors(base);
  return Affine{widened(base.weight->value()) + scale_ * at::matmul(up, down),
                base.bias ? widened(base.bias->value()) : Tensor()};
}

Tensor RotatedLinear::forward(const Linear& base, const Tensor& x, RandomStream* dropout) {
  const Tensor y = base.apply(rotated(widened(x), dropout).to(x.scalar_type()));
  const Tensor scale = output_scale();
  if (!scale.defined()) return y;
  if (!base.bias) return (scale * y).to(y.scalar_type());
  const Tensor bias = base.bias->value().to(y.scalar_type());
  return (scale * (y - bias)).to(y.scalar_type()) + bias;
}

std::optional<Affine> RotatedLinear::merged(const Linear& base) const {
  const Tensor weight = widened(base.weight->value());
  // x R Wᵀ = x (W Rᵀ)ᵀ.
  const Tensor rotation = rotated(at::eye(base.in(), weight.options()), nullptr);
  Affine out{at::matmul(weight, rotation.t()), base.bias ? widened(base.bias->value()) : Tensor()};
  if (const Tensor scale = output_scale(); scale.defined()) out.weight = out.weight * scale.unsqueeze(1);
  return out;
}

}  // namespace graft
