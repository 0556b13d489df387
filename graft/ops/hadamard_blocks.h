// What the transform's instruction sets offer to the one that cuts the work into passes.
#pragma once
#include <cstdint>

namespace graft::ops {

inline constexpr int64_t kColumnPadding = 16;

/// Works on data that stays in one core's cache.
template <class T>
struct HadamardBlocks {
  const char* name;  // of the instruction set
  /// All levels of 2^bits values that lie together.
  void (*block)(T* data, int bits);
  /// All levels over 2^bits rows of `width` values (a multiple of 16), `stride` apart; bits ≤ 12. `buffer`
  /// holds 2^bits · (width + kColumnPadding) values.
  void (*columns)(T* data, int bits, int64_t stride, int64_t width, T* buffer);
};

extern const HadamardBlocks<float> kHadamardFloat;    // any processor
extern const HadamardBlocks<double> kHadamardDouble;  // any processor
/// nullptr where the processor or the compiler does not have them.
const HadamardBlocks<float>* hadamard_avx2();
const HadamardBlocks<float>* hadamard_avx512();

}  // namespace graft::ops
