// The optimizer's step.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

struct AdamWOptions {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
};

/// One AdamW step in place (Loshchilov and Hutter 2019; torch's formula: decay first, bias-corrected
/// moments). All float32 of one shape; `step` counts from 1.
void adamw_step(Tensor& parameter, const Tensor& gradient, Tensor& exp_avg, Tensor& exp_avg_sq, int64_t step,
                const AdamWOptions& options);

}  // namespace graft::ops
