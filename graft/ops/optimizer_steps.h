// The optimizers' steps on parts of a tensor; AdamW's is ops/adamw.h.
#pragma once
#include <cstdint>

#include "graft/ops/adamw.h"

namespace graft::ops {

/// n values of one tensor: parameter, gradient, and the optimizer's state where it has one, float32. Changed
/// in place.
struct StepRange {
  int64_t n = 0;
  float* parameter = nullptr;
  const float* gradient = nullptr;
  float* first = nullptr;   // first moment, or momentum
  float* second = nullptr;  // second moment
};

/// As adamw_step.
void adamw_range(const StepRange& range, int64_t step, const AdamWOptions& options);

struct SgdOptions {
  double learning_rate = 1e-3, momentum = 0, weight_decay = 0;
};
/// torch's SGD: the decay is a part of the gradient; no dampening, not Nesterov's. `first` only with
/// momentum, zeros before the first step.
void sgd_range(const StepRange& range, const SgdOptions& options);

struct LionOptions {
  double learning_rate = 1e-4, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
};
/// Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2): the step is a sign; `first` zeros before the
/// first.
void lion_range(const StepRange& range, const LionOptions& options);

struct AdafactorOptions {
  double learning_rate = 1e-3, weight_decay = 0, decay_rate = -0.8, eps = 1e-30, clip_threshold = 1;
  /// The learning rate is a share of the tensor's root mean square, of `least_scale` where that is larger.
  bool scale_parameter = false;
  double least_scale = 1e-3;
};
/// Adafactor (Shazeer and Stern 2018, arXiv 1804.04235; transformers' formula with a given learning rate,
/// without first moment). A matrix [rows, columns] keeps a mean of squares for each row and each column; a
/// tensor of another dimension one for each value.
struct AdafactorState {
  float* rows = nullptr;     // [rows]; null: not a matrix
  float* columns = nullptr;  // [columns]
  float* values = nullptr;   // [n], where rows is null
};
/// `step` counts from 1; state is zeros before it. `matrices`: how many matrices lie one behind the other.
struct MatrixShape {
  int64_t matrices = 1, rows = 0, columns = 0;
};
void adafactor_tensor(const StepRange& range, const MatrixShape& shape, const AdafactorState& state,
                      int64_t step, const AdafactorOptions& options);

/// bfloat16 of float32 by chance: up or down so that the mean is the value. Draws are a function of key and
/// of the value's index, counted from `first_index` (a multiple of 8).
void round_by_chance(const float* from, int64_t n, uint64_t key, int64_t first_index, c10::BFloat16* to);

}  // namespace graft::ops
