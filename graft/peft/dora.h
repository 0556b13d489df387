// DoRA: LoRA on the direction of a weight, and a trained magnitude beside it. Source: Liu et al. 2024; files:
// PEFT's use_dora.
#pragma once
#include "graft/peft/lora_layer.h"

namespace graft {

/// Row norms [out] of W + s · B A, W [out, in]; no gradient (the paper's section 4.3).
Tensor dora_norms(const Tensor& weight, const LoraTensors& lora);

/// (m / n) ⊙ (W x + s · B A x) + b, n the row norms of W + s · B A.
class DoraLinear : public LinearHook {
 public:
  DoraLinear(LoraTensors tensors, Tensor magnitude)
      : lora_(std::move(tensors)), magnitude_(std::move(magnitude)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 private:
  LoraTensors lora_;
  Tensor magnitude_;  // [out]
};

/// (m / n) ⊙ (E[id] + s · A[:, id]ᵀ Bᵀ), n the norms of the table's columns.
class DoraEmbedding : public EmbeddingHook {
 public:
  DoraEmbedding(LoraTensors tensors, Tensor magnitude)
      : lora_(std::move(tensors)), magnitude_(std::move(magnitude)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override;
  std::optional<Tensor> merged(const Embedding& base) const override;

 private:
  LoraTensors lora_;
  Tensor magnitude_;  // [dim]
};

}  // namespace graft
