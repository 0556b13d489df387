#include "graft/peft/saved_module.h"

#include <ATen/ATen.h>

namespace graft {

Tensor SavedEmbedding::forward(const Embedding& base, const Tensor& ids) {
  return at::embedding(table_, ids).to(base.weight->base.scalar_type());
}

Tensor SavedLinear::forward(const Linear& base, const Tensor& x, RandomStream*) {
  const Tensor bias = base.bias ? base.bias->value().to(x.scalar_type()) : Tensor();
  return at::linear(x, weight_.to(x.scalar_type()), bias);
}

std::optional<Affine> SavedLinear::merged(const Linear& base) const {
  return Affine{weight_.detach(), base.bias ? base.bias->value() : Tensor()};
}

}  // namespace graft
