// The optimizers over an adapter's trained tensors, with clipping; their state is a part of the training
// state.
#pragma once
#include <vector>

#include "graft/io/tensor_map.h"
#include "graft/ops/optimizer_steps.h"
#include "graft/train/train_config.h"

namespace graft {

/// True where weight decay applies to the tensor with this key: neither a bias nor part of a norm
/// (transformers' rule).
bool decays(const std::string& key);

/// What the learning rate of a tensor is, where that of the plain ones is `learning_rate`. Source: Hayou et
/// al. 2024 (LoRA+), groups as PEFT makes them: updates of embeddings; B and vectors; the rest.
double group_learning_rate(const std::string& key, const Tensor& tensor, double learning_rate,
                           const TrainConfig& config);

/// train.optimizer over all trained tensors at once: its state lies in one float32 buffer, and a step goes
/// through all tensors in pieces that the threads share.
class Optimizer {
 public:
  /// `trained`: leaves that require gradient, float32; or bfloat16, then each step rounds them by chance.
  Optimizer(TensorMap trained, const TrainConfig& config);

  /// Global 2-norm of the gradients, added in float64.
  double gradient_norm() const;
  /// One step with the gradients multiplied by torch's clipping factor min(1, max_grad_norm / (norm + 1e-6)).
  /// `step` counts from 1.
  void step(int64_t step, double learning_rate, double gradient_norm);
  void clear_gradients();

  const TensorMap& trained() const { return trained_; }
  /// By name and key ("exp_avg.KEY"), named as torch and transformers name it; views of the buffer.
  TensorMap state() const { return state_; }
  int64_t state_bytes() const { return static_cast<int64_t>(buffer_.nbytes()); }

 private:
  /// A trained tensor and what the optimizer keeps of it (where it lies in the buffer; null: nothing).
  struct Slot {
    Tensor parameter;
    bool decays = true;
    int64_t index = 0;         // of its first value among all values
    double learning_rate = 0;  // in this step
    ops::MatrixShape shape;
    float *first = nullptr, *second = nullptr, *rows = nullptr, *columns = nullptr;
  };
  /// Values begin … end - 1 of a slot.
  struct Piece {
    size_t slot;
    int64_t begin, end;
  };
  /// One step's numbers.
  struct Step {
    int64_t number = 1;
    float factor = 1;  // of the gradients
    uint64_t rounding = 0;
  };

  struct Part;
  std::vector<Part> parts(Slot& slot);
  void lay_out();
  void update(const Slot& slot, const ops::StepRange& range, const Step& step) const;
  void update_piece(const Piece& piece, const Step& step) const;
  void update_halves(const Slot& slot, const Piece& piece, const Tensor& gradient, const Step& step) const;

  TensorMap trained_, state_;
  TrainConfig config_;
  std::vector<Slot> slots_;
  std::vector<Piece> pieces_;
  Tensor buffer_;
};

}  // namespace graft
