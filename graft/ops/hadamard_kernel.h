// The transform on blocks that stay in cache, written once over a vector type and compiled for each
// instruction set. A source file defines GRAFT_HADAMARD_NAMESPACE, sets its target options, and includes
// this; nothing here comes from a header with code in it, so that no shared inline function is compiled for
// the wrong processor.
#include "graft/ops/hadamard_blocks.h"
#include "graft/ops/lane_indices.h"

namespace graft::ops::GRAFT_HADAMARD_NAMESPACE {

#define GRAFT_INLINE inline __attribute__((always_inline))

template <int kVectorBytes>
struct Float {
  using Value = float;
  typedef float Vector __attribute__((vector_size(kVectorBytes), may_alias, aligned(4)));
  static constexpr int kBytes = kVectorBytes, kLanes = kBytes / 4;
};
template <int kVectorBytes>
struct Double {
  using Value = double;
  typedef double Vector __attribute__((vector_size(kVectorBytes), may_alias, aligned(8)));
  static constexpr int kBytes = kVectorBytes, kLanes = kBytes / 8;
};

constexpr int log2_of(int power) { return power == 1 ? 0 : 1 + log2_of(power / 2); }

template <class P>
struct Kernel {
  using T = typename P::Value;
  using V = typename P::Vector;
  static constexpr int kLanes = P::kLanes, kLaneBits = log2_of(kLanes);
  // As many vectors as half of the registers: 32 of AVX-512, 16 of all others.
  static constexpr int kRadixBits = P::kBytes == 64 ? 4 : 3, kRadix = 1 << kRadixBits;
  static constexpr int kFirstBits = kLaneBits + kRadixBits;  // done in registers with one load and one store
  static constexpr int kInnerBits = sizeof(T) == 4 ? 12 : 11;  // half of a first-level cache of 32 KiB
  static constexpr int64_t kLineBytes = 64;
  // Rows whose stride is a multiple of 4 KiB all fall into the same set of a first-level cache of 8 ways.
  static constexpr int kSameSetBits = 3;

  static GRAFT_INLINE V& at(T* p) { return *reinterpret_cast<V*>(p); }
  static GRAFT_INLINE const V& at(const T* p) { return *reinterpret_cast<const V*>(p); }

  /// One level inside the lanes: (a, b) → (a + b, a - b) for lanes that differ in bit kBit.
  template <int kBit, int... kIndex>
  static GRAFT_INLINE void lane_level(V& x, Indices<kIndex...>) {
    const V other = __builtin_shufflevector(x, x, (kIndex ^ (1 << kBit))...);
    constexpr T kPlus = 1, kMinus = -1;
    const V sign = {((kIndex >> kBit & 1) ? kMinus : kPlus)...};
    x = other + x * sign;
  }
  template <int kBit>
  static GRAFT_INLINE void lane_levels(V& x) {
    if constexpr (kBit < kLaneBits) {
      lane_level<kBit>(x, typename MakeIndices<kLanes>::Type());
      lane_levels<kBit + 1>(x);
    }
  }

  template <int kBits>
  static GRAFT_INLINE void butterflies(V (&v)[1 << kBits]) {
#pragma GCC unroll 4
    for (int bit = 0; bit < kBits; ++bit) {
#pragma GCC unroll 16
      for (int i = 0; i < (1 << kBits); ++i) {
        if (i >> bit & 1) continue;
        const V a = v[i], b = v[i | 1 << bit];
        v[i] = a + b;
        v[i | 1 << bit] = a - b;
      }
    }
  }

  /// The first kFirstBits levels of 2^kFirstBits values.
  static GRAFT_INLINE void first_levels(T* p) {
    if constexpr (P::kBytes == 32) {
      // The next inner block comes from memory while this one's other levels are computed.
      for (int64_t i = 0; i < kRadix * kLanes; i += kLineBytes / int64_t{sizeof(T)})
        __builtin_prefetch(p + (int64_t{1} << kInnerBits) + i, 0, 2);
    }
    V v[kRadix];
#pragma GCC unroll 16
    for (int i = 0; i < kRadix; ++i) {
      v[i] = at(p + i * kLanes);
      lane_levels<0>(v[i]);
    }
    butterflies<kRadixBits>(v);
#pragma GCC unroll 16
    for (int i = 0; i < kRadix; ++i) at(p + i * kLanes) = v[i];
  }

  /// kBits levels over 2^kBits rows of `width` values each, from one place to another; kAsk: half as many
  /// values, from `ahead` on, come from memory meanwhile.
  template <int kBits, bool kAsk = false>
  static void rows(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t width,
                   const T* ahead = nullptr) {
    constexpr int64_t kHalf = (int64_t{kLanes} << kBits) / 2, kLine = kLineBytes / int64_t{sizeof(T)};
    for (int64_t j = 0; j < width; j += kLanes) {
      if constexpr (kAsk) {
        for (int64_t i = 0; i < kHalf; i += kLine) __builtin_prefetch(ahead + i, 0, 2);
        ahead += kHalf;
      }
      V v[1 << kBits];
#pragma GCC unroll 16
      for (int i = 0; i < (1 << kBits); ++i) v[i] = at(from + i * from_stride + j);
      butterflies<kBits>(v);
#pragma GCC unroll 16
      for (int i = 0; i < (1 << kBits); ++i) at(to + i * to_stride + j) = v[i];
    }
  }
  static void rows(int bits, const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t width) {
    switch (bits) {
      case 1:
        return rows<1>(from, from_stride, to, to_stride, width);
      case 2:
        return rows<2>(from, from_stride, to, to_stride, width);
      case 3:
        return rows<3>(from, from_stride, to, to_stride, width);
      default:
        return rows<kRadixBits>(from, from_stride, to, to_stride, width);
    }
  }

  /// Levels low … high - 1 of 2^size values, 2^low at least one vector.
  static void levels(T* p, int low, int high, int size) {
    while (low < high) {
      const int most = low < kInnerBits ? kRadixBits : kSameSetBits;
      const int bits = high - low < most ? high - low : most;
      const int64_t stride = int64_t{1} << low;
      for (int64_t i = 0; i < int64_t{1} << size; i += stride << bits)
        rows(bits, p + i, stride, p + i, stride, stride);
      low += bits;
    }
  }

  /// The same for the upper levels of a block, which stay in the second-level cache: the next block comes
  /// from memory meanwhile, half of it with each few levels.
  static void upper_levels(T* p, int low, int bits) {
    const int64_t size = int64_t{1} << bits;
    const T* ahead = p + size;
    for (int count = 0; low < bits; low += count) {
      count = bits - low < kSameSetBits ? bits - low : kSameSetBits;
      const int64_t stride = int64_t{1} << low, step = stride << count;
      for (int64_t i = 0; i < size; i += step, ahead += step / 2) {
        T* const q = p + i;
        if (count == 3) rows<3, true>(q, stride, q, stride, stride, ahead);
        if (count == 2) rows<2, true>(q, stride, q, stride, stride, ahead);
        if (count == 1) rows<1, true>(q, stride, q, stride, stride, ahead);
      }
    }
  }

  static void small(T* p, int bits) {
    for (int64_t h = 1; h < int64_t{1} << bits; h *= 2) {
      for (int64_t i = 0; i < int64_t{1} << bits; ++i) {
        if (i & h) continue;
        const T a = p[i], b = p[i + h];
        p[i] = a + b;
        p[i + h] = a - b;
      }
    }
  }

  /// All levels of 2^bits values that lie together.
  static void block(T* p, int bits) {
    if (bits < kFirstBits) return small(p, bits);
    const int inner = bits < kInnerBits ? bits : kInnerBits;
    for (int64_t i = 0; i < int64_t{1} << bits; i += int64_t{1} << inner) {
      for (int64_t j = 0; j < int64_t{1} << inner; j += int64_t{1} << kFirstBits) first_levels(p + i + j);
      levels(p + i, kFirstBits, inner, inner);
    }
    if constexpr (P::kBytes == 64) return upper_levels(p, inner, bits);
    levels(p, inner, bits, bits);
  }

  /// All levels over 2^bits rows of `width` values, `stride` apart: a first step into `buffer`, whose own
  /// rows are a line longer and so spread over the cache's sets, and a last step back.
  static void columns(T* p, int bits, int64_t stride, int64_t width, T* buffer) {
    if (bits <= kSameSetBits) return rows(bits, p, stride, p, stride, width);
    const int64_t pitch = width + kColumnPadding;
    const int64_t count = int64_t{1} << bits;
    int low = bits < 2 * kSameSetBits ? bits - kSameSetBits : kSameSetBits;
    for (int64_t i = 0; i < count; i += int64_t{1} << low) {
      // The hardware foresees no jumps from row to row.
      for (int64_t r = i + (int64_t{1} << low); r < i + (int64_t{2} << low) && r < count; ++r) {
        for (int64_t j = 0; j < width; j += kLineBytes / int64_t{sizeof(T)})
          __builtin_prefetch(p + r * stride + j, 0, 2);
      }
      rows(low, p + i * stride, stride, buffer + i * pitch, pitch, width);
    }
    while (bits - low > kSameSetBits) {
      const int left = bits - low - kSameSetBits;
      const int more = left > kRadixBits ? (left + 1) / 2 : left;
      for (int64_t high = 0; high < count; high += int64_t{1} << (low + more)) {
        for (int64_t i = high; i < high + (int64_t{1} << low); ++i)
          rows(more, buffer + i * pitch, pitch << low, buffer + i * pitch, pitch << low, width);
      }
      low += more;
    }
    for (int64_t i = 0; i < int64_t{1} << low; ++i)
      rows(bits - low, buffer + i * pitch, pitch << low, p + i * stride, stride << low, width);
  }
};

#undef GRAFT_INLINE

}  // namespace graft::ops::GRAFT_HADAMARD_NAMESPACE
