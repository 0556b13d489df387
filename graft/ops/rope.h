// Rotary position embedding on packed rows.
#pragma once
#include <ATen/core/Tensor.h>

namespace graft::ops {

using at::Tensor;

/// cos, sin [P, R/2] float32 for positions 0 … P - 1 from inverse frequencies [R/2]; computed in float32 as
/// transformers does.
struct RopeTable {
  Tensor cos, sin;
};
RopeTable rope_table(const Tensor& inverse_frequencies, int64_t positions, double attention_scaling = 1.0);

/// Rotates the first R dimensions of each head, halves paired as (i, i + R/2) (the Hugging Face order). x [T,
/// H, D], positions [T] int64 → [T, H, D]. Source: Su et al. 2021.
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table);
Tensor rope_plain(const Tensor& x, const Tensor& positions, const RopeTable& table);

}  // namespace graft::ops
