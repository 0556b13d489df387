// AdamW over an adapter's trained tensors, with clipping; its moments are part of the training state.
#pragma once
#include <vector>

#include "graft/io/tensor_map.h"
#include "graft/train/train_config.h"

namespace graft {

/// True where weight decay applies to the tensor with this key: neither a bias nor part of a norm
/// (transformers' rule).
bool decays(const std::string& key);

/// What the learning rate of a tensor is, where that of the plain ones is `learning_rate`. Source: Hayou et
/// al. 2024 (LoRA+), groups as PEFT makes them: updates of embeddings; B and vectors; the rest.
double group_learning_rate(const std::string& key, const Tensor& tensor, double learning_rate,
                           const TrainConfig& config);

class Optimizer {
 public:
  /// `trained`: leaves that require gradient, float32.
  Optimizer(TensorMap trained, const TrainConfig& config);

  /// Global 2-norm of the gradients; the tensors' norms are added in float64.
  double gradient_norm() const;
  /// One step with the gradients multiplied (in place) by torch's clipping factor min(1, max_grad_norm /
  /// (norm + 1e-6)). `step` counts from 1.
  void step(int64_t step, double learning_rate, double gradient_norm);
  void clear_gradients();

  const TensorMap& trained() const { return trained_; }
  TensorMap& exp_avg() { return exp_avg_; }
  TensorMap& exp_avg_sq() { return exp_avg_sq_; }

 private:
  TensorMap trained_, exp_avg_, exp_avg_sq_;
  TrainConfig config_;
};

}  // namespace graft
