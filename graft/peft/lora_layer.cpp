#include "graft/peft/lora_layer.h"

#include <ATen/ATen.h>

#include "graft/ops/dropout.h"
#include "graft/ops/low_rank.h"
#include "graft/peft/builder.h"

namespace graft {

std::pair<Tensor, Tensor> LoraTensors::plain() const {
  if (!a0.defined()) return {a, b};
  return {at::cat({a, a0}, 0), at::cat({b, -b0}, 1)};
}

std::optional<ops::LowRankUpdate> LoraLinear::update(const Tensor& x, RandomStream* dropout) {
  const bool drops = dropout && lora_.dropout > 0;
  const Tensor in = drops ? ops::dropout(x, lora_.dropout, dropout->next_key()) : Tensor();
  return ops::LowRankUpdate{in, lora_.a, lora_.b, lora_.scale, &packed_};
}

Tensor LoraLinear::forward(const Linear& base, const Tensor& x, RandomStream* dropout) {
  const ops::LowRankUpdate own = *update(x, dropout);
  const bool drops = own.in.defined();
  Tensor y = base.apply(x);
  if (drops) {
    if (lora_.a0.defined()) y = ops::low_rank_add(y, x, lora_.a0, lora_.b0, -lora_.scale);
    y = ops::low_rank_add(y, own.in, lora_.a, lora_.b, lora_.scale);
  } else if (!lora_.a0.defined()) {
    y = ops::low_rank_add(y, x, lora_.a, lora_.b, lora_.scale, packed_);
  } else {
    // In one sum: what training has not moved cancels before it is rounded.
    const auto [a, b] = lora_.plain();
    y = ops::low_rank_add(y, x, a, b, lora_.scale);
  }
  if (lora_.bias.defined()) y = y + (lora_.scale * lora_.bias).to(y.scalar_type());
  return y;
}

std::optional<Affine> LoraLinear::merged(const Linear& base) const {
  Affine out;
  const auto [low, high] = lora_.plain();
  out.weight = at::addmm(widened(base.weight->value()), high, low, 1, lora_.scale);
  if (base.bias) out.bias = widened(base.bias->value());
  if (lora_.bias.defined()) {
    const Tensor added = lora_.scale * lora_.bias;
    out.bias = out.bias.defined() ? out.bias + added : added;
  }
  return out;
}

Tensor LoraEmbedding::forward(const Embedding& base, const Tensor& ids) {
  const Tensor y = base.apply(ids);
  const Tensor added = at::matmul(lora_.a.index_select(1, ids).t(), lora_.b.t());
  return y + (lora_.scale * added).to(y.scalar_type());
}

std::optional<Tensor> LoraEmbedding::merged(const Embedding& base) const {
  return widened(base.weight->value()) + lora_.scale * at::matmul(lora_.b, lora_.a).t();
}

}  // namespace graft
