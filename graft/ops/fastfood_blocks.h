// What the instruction sets offer to the Fastfood map: stretches of G Π z and of its transpose.
#pragma once
#include <cstdint>

#include "graft/ops/fastfood.h"

namespace graft::ops {

/// Stretches begin and end at multiples of this, except where the map itself ends.
inline constexpr int64_t kFastfoodStretch = 32;

struct FastfoodBlocks {
  /// out[j] = G[j] · table[π(j) & mask] for begin ≤ j < end; `out` is index 0's place.
  void (*spread)(const Fastfood& map, const Permutation& permutation, const float* table, uint32_t mask,
                 int64_t begin, int64_t end, float* out);
  /// table[π(j) & mask] += G[j] · g[j] for begin ≤ j < end.
  void (*collect)(const Fastfood& map, const Permutation& permutation, const float* g, uint32_t mask,
                  int64_t begin, int64_t end, float* table);
  /// G[begin] … G[end - 1] to out[begin] ….
  void (*normals)(const Fastfood& map, int64_t begin, int64_t end, float* out);
};

extern const FastfoodBlocks kFastfood;  // any processor
/// nullptr where the processor or the compiler does not have them.
const FastfoodBlocks* fastfood_avx2();
const FastfoodBlocks* fastfood_avx512();

/// Which words of Philox are whose: the third word of the counter.
enum FastfoodDraw : uint32_t { kDrawSigns = 1, kDrawNormals = 2, kDrawPermutation = 3 };

/// Coefficients of Box and Muller's functions, so that all forms round alike: with s = (m - 1) / (m + 1),
/// ln m = 2 (s + s³/3 + … + s⁹/9) on [√½, √2), and Taylor's series of sine and cosine on [-π/4, π/4).
namespace box_muller {
inline constexpr float kLn2 = 0.693147182464599609375f, kQuarterPiByWord = 0x1.921fb6p-32f;  // π/4 · 2^-31
inline constexpr float kLog3 = 2.f / 3, kLog5 = 2.f / 5, kLog7 = 2.f / 7, kLog9 = 2.f / 9;
inline constexpr float kSin3 = -1.f / 6, kSin5 = 1.f / 120, kSin7 = -1.f / 5040, kSin9 = 1.f / 362880;
inline constexpr float kCos2 = -1.f / 2, kCos4 = 1.f / 24, kCos6 = -1.f / 720, kCos8 = 1.f / 40320;
inline constexpr float kCos10 = -1.f / 3628800;
}  // namespace box_muller

}  // namespace graft::ops
