#include "graft/nn/linear.h"

#include <ATen/ATen.h>

namespace graft {

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  weight = add("weight", {out, in});
  if (with_bias) bias = add("bias", {out});
}

Linear::Linear(std::shared_ptr<Parameter> shared, bool with_bias) : weight(std::move(shared)) {
  add("weight", weight);
  if (with_bias) bias = add("bias", {out()});
}

Tensor Linear::forward(const Tensor& x, RandomStream* dropout) const {
  return hook ? hook->forward(*this, x, dropout) : apply(x);
}

Tensor Linear::apply(const Tensor& x) const {
  const Tensor b = bias ? bias->value().to(x.scalar_type()) : Tensor();
  if (weight->frozen()) return ops::frozen_linear(x, weight->base, b, packed_);
  return at::linear(x, weight->stand_in.to(x.scalar_type()), b);
}

void Linear::untie() {
  weight = std::make_shared<Parameter>(*weight);
  replace("weight", weight);
  packed_ = {};
}

}  // namespace graft
