// LoRA's tensors at one map, and what they compute there.
#pragma once
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"

namespace graft {

struct LoraTensors {
  Tensor a;     // [r, in]; at an embedding [r, rows]
  Tensor b;     // [out, r]; at an embedding [dim, r]
  Tensor bias;  // [out] or undefined (lora_bias)
  double scale = 1;
  double dropout = 0;
};

/// W x + b + s · (B A dropout(x) + bias).
class LoraLinear : public LinearHook {
 public:
  explicit LoraLinear(LoraTensors tensors) : lora_(std::move(tensors)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override;
  std::optional<Affine> merged(const Linear& base) const override;

 private:
  LoraTensors lora_;
};

/// E[id] + s · A[:, id]ᵀ Bᵀ.
class LoraEmbedding : public EmbeddingHook {
 public:
  explicit LoraEmbedding(LoraTensors tensors) : lora_(std::move(tensors)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override;
  std::optional<Tensor> merged(const Embedding& base) const override;

 private:
  LoraTensors lora_;
};

}  // namespace graft
