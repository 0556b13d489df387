// The random map of intrinsic dimension, M = H G Π H B (Fastfood, Le et al. 2013), without its matrix: the
// signs B, the permutation Π and the normals G are functions of a key and an index, made anew at every use.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace graft::ops {

using at::Tensor;

/// M = H G Π H B of 2^bits values, unnormalised; x [d] with d ≤ 2^bits counts as followed by zeros.
///
///   B  ±1: bit 0 of word i of Philox
///   Π  (Πz)[j] = z[π(j)], π the bijection of 2^bits numbers that permuted() computes
///   G  N(0, 1) by Box and Muller from word j of Philox
///
/// Of x only d values are not 0, so the inner transform repeats with the period p = 2^⌈log2 d⌉ and is
/// computed once, in a table of p values: M costs one large transform, not two, and π's random walk stays in
/// that table.
struct Fastfood {
  uint64_t key = 0;
  int bits = 0;  // at most kHadamardMaxBits
  int64_t size() const { return int64_t{1} << bits; }
};

/// M x as the 2^bits values of `out` (float32, contiguous), which is overwritten. x [d] float32, 1 ≤ d ≤
/// 2^bits. The same bits on any number of threads, like all of the below.
void fastfood(const Fastfood& map, const Tensor& x, Tensor& out);
/// Mᵀ g → its first d values [d]. `g` (2^bits values, float32, contiguous) is used up.
Tensor fastfood_transposed(const Fastfood& map, Tensor& g, int64_t d);
/// Both in ATen operations, float32 or float64 as x and g are, differentiable.
Tensor fastfood_plain(const Fastfood& map, const Tensor& x);
Tensor fastfood_transposed_plain(const Fastfood& map, const Tensor& g, int64_t d);

/// ΣG²: a column of M has the norm √(2^bits · ΣG²).
double fastfood_square_sum(const Fastfood& map);

/// What π is made of: four rounds of x ← (x · multiplier + increment) mod 2^bits, x ← x ⊕ (x ≫ shift), each a
/// bijection.
struct Permutation {
  static constexpr int kRounds = 4;
  uint32_t multiplier[kRounds], increment[kRounds];
  uint32_t mask;
  int shift;
};
Permutation permutation(const Fastfood& map);
uint32_t permuted(const Permutation& permutation, uint32_t index);

/// B's first `count` values, Π's as indices (int64), G, as the plain form uses them.
Tensor fastfood_signs(const Fastfood& map, int64_t count);
Tensor fastfood_permutation(const Fastfood& map);
Tensor fastfood_normals(const Fastfood& map);

}  // namespace graft::ops
