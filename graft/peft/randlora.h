// RandLoRA: an update of full rank, a trained sum of random low-rank maps. Source: Albert et al. 2025; files:
// PEFT's RANDLORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kRandlora;

struct RandomBases {
  Tensor a;  // [r, 1, narrow]
  Tensor b;  // [wide, ⌈narrow / r⌉, r]
};
/// What PEFT draws from torch's CPU generator; `sparsity` 0: uniform numbers, else so few that one in
/// `sparsity` is not zero. Both of deviation 1.
RandomBases randlora_bases(int64_t seed, int64_t r, int64_t narrow, int64_t wide, double sparsity);

}  // namespace graft
