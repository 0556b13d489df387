#include "graft/peft/dora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/ops/dropout.h"
#include "graft/ops/low_rank.h"
#include "graft/peft/builder.h"

namespace graft {

Tensor dora_norms(const Tensor& weight, const LoraTensors& lora) {
  const at::NoGradGuard no_grad;
  const Tensor w = widened(weight);
  // ‖w + s·b a‖² row by row, without the sum itself: its out × in numbers would be made at every pass.
  const Tensor crossed = (at::matmul(w, lora.a.t()) * lora.b).sum(1);
  const Tensor added = (at::matmul(lora.b, at::matmul(lora.a, lora.a.t())) * lora.b).sum(1);
  return (w.square().sum(1) + 2 * lora.scale * crossed + lora.scale * lora.scale * added).clamp_min(0).sqrt();
}

Tensor DoraLinear::forward(const Linear& base, const Tensor& x, RandomStream* dropout) {
  const bool drops = dropout && lora_.dropout > 0;
  const Tensor in = drops ? ops::dropout(x, lora_.dropout, dropout->next_key()) : x;
  const Tensor plain = base.apply(in);
  const Tensor bias = base.bias ? base.bias->value().to(x.scalar_type()) : at::zeros({1}, x.options());
  const Tensor direction = ops::low_rank_add(plain, in, lora_.a, lora_.b, lora_.scale) - bias;
  const Tensor ratio = magnitude_ / dora_norms(base.weight->value(), lora_);
  const Tensor scaled = (ratio * direction).to(x.scalar_type());
  // With dropout the frozen part stays undropped.
  return drops ? base.apply(x) + scaled - (plain - bias) : scaled + bias;
}

std::optional<Affine> DoraLinear::merged(const Linear& base) const {
  Affine out;
  const Tensor ratio = magnitude_ / dora_norms(base.weight->value(), lora_);
  const Tensor direction = widened(base.weight->value()) + lora_.scale * at::matmul(lora_.b, lora_.a);
  out.weight = ratio.unsqueeze(1) * direction;
  if (base.bias) out.bias = widened(base.bias->value());
  return out;
}

Tensor DoraEmbedding::forward(const Embedding& base, const Tensor& ids) {
  const Tensor y = base.apply(ids);
  const Tensor added = lora_.scale * at::matmul(lora_.a.index_select(1, ids).t(), lora_.b.t());
  const Tensor ratio = magnitude_ / dora_norms(base.weight->value().t(), lora_);
  return (ratio * (y + added)).to(y.scalar_type());
}

std::optional<Tensor> DoraEmbedding::merged(const Embedding& base) const {
  const Tensor ratio = magnitude_ / dora_norms(base.weight->value().t(), lora_);
  return ratio * (widened(base.weight->value()) + lora_.scale * at::matmul(lora_.b, lora_.a).t());
}

}  // namespace graft
