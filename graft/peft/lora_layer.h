// LoRA's tensors at one map, and what they compute there.
#pragma once
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"
#include "graft/ops/low_rank.h"

namespace graft {

struct LoraTensors {
  Tensor a;       // [r, in]; at an embedding [r, rows]
  Tensor b;       // [out, r]; at an embedding [dim, r]
  Tensor bias;    // [out] or undefined (lora_bias)
  Tensor a0, b0;  // [r, in], [out, r], or undefined: what A and B started as, a part of the base's own weight
  double scale = 1;
  double dropout = 0;
  /// The same map without initial values: A over A₀ [2r, in], B beside -B₀ [out, 2r]; themselves without any.
  std::pair<Tensor, Tensor> plain() const;
};

/// W x + b + s · (B A dropout(x) + bias) - s · B₀ A₀ x.
class LoraLinear : public LinearHook {
 public:
  explicit LoraLinear(LoraTensors tensors) : lora_(std::move(tensors)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<ops::LowRankUpdate> update(const Tensor& x, RandomStream* dropout) override;
  bool is_update() const override { return !lora_.a0.defined() && !lora_.bias.defined(); }
  std::optional<Affine> merged(const Linear& base) const override;
  const LoraTensors& tensors() const { return lora_; }

 private:
  LoraTensors lora_;
  ops::PackedLowRank packed_;
};

/// E[id] + s · A[:, id]ᵀ Bᵀ.
class LoraEmbedding : public EmbeddingHook {
 public:
  explicit LoraEmbedding(LoraTensors tensors) : lora_(std::move(tensors)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override;
  std::optional<Tensor> merged(const Embedding& base) const override;
  const LoraTensors& tensors() const { return lora_; }

 private:
  LoraTensors lora_;
};

}  // namespace graft
