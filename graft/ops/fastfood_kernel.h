// Stretches of the Fastfood map, written once over the width of a vector and compiled for each instruction
// set. A source file defines GRAFT_FASTFOOD_NAMESPACE, sets its target options, includes this, and gives what
// the language has no word for; nothing here comes from a header with code in it, so that no shared inline
// function is compiled for the wrong processor.
#include "graft/ops/fastfood_blocks.h"
#include "graft/ops/lane_indices.h"

namespace graft::ops::GRAFT_FASTFOOD_NAMESPACE {

#define GRAFT_INLINE inline __attribute__((always_inline))

template <int kBytes>
struct Vectors {
  typedef float Float __attribute__((vector_size(kBytes)));
  typedef int32_t Int __attribute__((vector_size(kBytes)));
  typedef uint32_t Word __attribute__((vector_size(kBytes)));
  typedef uint64_t Wide __attribute__((vector_size(kBytes)));
  typedef float Memory __attribute__((vector_size(kBytes), may_alias, aligned(4)));
  typedef uint32_t WordMemory __attribute__((vector_size(kBytes), may_alias, aligned(4)));
  static constexpr int kLanes = kBytes / 4;
};

/// P: Vectors<…> with low_product (of the lower halves of Wide's lanes, whole), root, and gather (of a table
/// at indices).
template <class P>
struct Kernel {
  using Float = typename P::Float;
  using Int = typename P::Int;
  using Word = typename P::Word;
  using Wide = typename P::Wide;
  static constexpr int kLanes = P::kLanes;
  static constexpr int64_t kStep = 2 * kLanes;  // how many normals are made at a time
  static_assert(kFastfoodStretch % kStep == 0);
  using Lanes = typename MakeIndices<kLanes>::Type;
  using WideLanes = typename MakeIndices<kLanes / 2>::Type;

  static GRAFT_INLINE void store(float* to, Float x) { *reinterpret_cast<typename P::Memory*>(to) = x; }
  static GRAFT_INLINE Float load(const float* from) {
    return *reinterpret_cast<const typename P::Memory*>(from);
  }

  template <int... kIndex>
  static GRAFT_INLINE Word lanes(Indices<kIndex...>) {
    return Word{uint32_t{kIndex}...};
  }
  template <int... kIndex>
  static GRAFT_INLINE Wide wide_lanes(Indices<kIndex...>) {
    return Wide{uint64_t{kIndex}...};
  }
  /// The lower halves of a's lanes, each followed by that of b's.
  template <int... kIndex>
  static GRAFT_INLINE Word low_halves(Wide a, Wide b, Indices<kIndex...>) {
    const auto even = reinterpret_cast<Word>(a), odd = reinterpret_cast<Word>(b << 32);
    return __builtin_shufflevector(even, odd, (kIndex + kIndex % 2 * kLanes)...);
  }
  /// a[from], b[from], a[from + 1], …
  template <int kFrom, int... kIndex>
  static GRAFT_INLINE Float alternating(Float a, Float b, Indices<kIndex...>) {
    return __builtin_shufflevector(a, b, (kFrom + kIndex / 2 + kIndex % 2 * kLanes)...);
  }

  struct Words {
    Word radius, angle;  // of blocks 0, 0, 1, 1, …
  };
  /// Blocks first … first + kLanes / 2 - 1 of Philox.
  static GRAFT_INLINE Words philox_words(uint64_t key, uint32_t first) {
    const Wide low = Wide{} + uint64_t{0xFFFFFFFF};
    Wide c0 = (wide_lanes(WideLanes()) + uint64_t{first}) & low;
    Wide c1 = {}, c2 = Wide{} + uint64_t{kDrawNormals}, c3 = {};
    auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    // One word in the lower half of each lane; what the upper halves hold is never looked at.
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const Wide a = P::low_product(c0, Wide{} + uint64_t{0xD2511F53});
      const Wide b = P::low_product(c2, Wide{} + uint64_t{0xCD9E8D57});
      c0 = (b >> 32) ^ c1 ^ (Wide{} + uint64_t{k0});
      c2 = (a >> 32) ^ c3 ^ (Wide{} + uint64_t{k1});
      c1 = b;
      c3 = a;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {low_halves(c0, c2, Lanes()), low_halves(c1, c3, Lanes())};
  }

  static GRAFT_INLINE Float radius_of(Word words) {
    using namespace box_muller;
    const auto above = reinterpret_cast<Int>((words >> 8) + 1u);
    const Float uniform = __builtin_convertvector(above, Float) * 0x1p-24f;
    const Word bits = reinterpret_cast<Word>(uniform) - 0x3f3504f3u;
    const Float exponent = __builtin_convertvector(reinterpret_cast<Int>(bits) >> 23, Float);
    const auto mantissa = reinterpret_cast<Float>((bits & 0x7fffffu) + 0x3f3504f3u);
    const Float s = (mantissa - 1.f) / (mantissa + 1.f), s2 = s * s;
    const Float series = ((((kLog9 * s2 + kLog7) * s2 + kLog5) * s2 + kLog3) * s2 + 2.f) * s;
    return P::root((exponent * kLn2 + series) * -2.f);
  }

  struct Normals {
    Float first, second;  // G[kStep i] …, G[kStep i + kLanes] …
  };
  static GRAFT_INLINE Normals normals_at(uint64_t key, int64_t begin) {
    using namespace box_muller;
    const Words words = philox_words(key, static_cast<uint32_t>(begin / 4));
    const Float radius = radius_of(words.radius);
    const Float t = __builtin_convertvector(reinterpret_cast<Int>(words.angle), Float) * kQuarterPiByWord;
    const Float t2 = t * t;
    const Float sine = ((((kSin9 * t2 + kSin7) * t2 + kSin5) * t2 + kSin3) * t2 + 1.f) * t;
    const Float upright = ((((kCos10 * t2 + kCos8) * t2 + kCos6) * t2 + kCos4) * t2 + kCos2) * t2 + 1.f;
    const auto cosine = reinterpret_cast<Float>(reinterpret_cast<Word>(upright) ^ (words.radius & 2u) << 30);
    const Int swapped = reinterpret_cast<Int>(words.radius << 31) < 0;
    const Float a = radius * (swapped ? sine : cosine), b = radius * (swapped ? cosine : sine);
    return {alternating<0>(a, b, Lanes()), alternating<kLanes / 2>(a, b, Lanes())};
  }

  /// Places in the table for the indices from `first` on.
  static GRAFT_INLINE Word places(const Permutation& order, uint32_t mask, int64_t first) {
    Word x = lanes(Lanes()) + static_cast<uint32_t>(first);
#pragma GCC unroll 4
    for (int round = 0; round < Permutation::kRounds; ++round) {
      x = (x * order.multiplier[round] + order.increment[round]) & order.mask;
      x ^= x >> order.shift;
    }
    return x & mask;
  }

  static int64_t whole(int64_t begin, int64_t end) {
    return begin + (end - begin) / kFastfoodStretch * kFastfoodStretch;
  }

  static void spread(const Fastfood& map, const Permutation& permutation, const float* table, uint32_t mask,
                     int64_t begin, int64_t end, float* out) {
    const int64_t last = whole(begin, end);
    const Permutation order = permutation;
    for (int64_t i = begin; i < last; i += kStep) {
      const Normals g = normals_at(map.key, i);
      store(out + i, g.first * P::gather(table, places(order, mask, i)));
      store(out + i + kLanes, g.second * P::gather(table, places(order, mask, i + kLanes)));
    }
    if (last < end) kFastfood.spread(map, permutation, table, mask, last, end, out);
  }

  static void collect(const Fastfood& map, const Permutation& permutation, const float* g, uint32_t mask,
                      int64_t begin, int64_t end, float* table) {
    const int64_t last = whole(begin, end);
    const Permutation order = permutation;
    alignas(64) uint32_t index[kStep];
    alignas(64) float value[kStep];
    for (int64_t i = begin; i < last; i += kStep) {
      const Normals normals = normals_at(map.key, i);
      for (const int64_t half : {0, kLanes})
        *reinterpret_cast<typename P::WordMemory*>(index + half) = places(order, mask, i + half);
      store(value, normals.first * load(g + i));
      store(value + kLanes, normals.second * load(g + i + kLanes));
      for (int64_t j = 0; j < kStep; ++j) table[index[j]] += value[j];
    }
    if (last < end) kFastfood.collect(map, permutation, g, mask, last, end, table);
  }

  static void normals(const Fastfood& map, int64_t begin, int64_t end, float* out) {
    const int64_t last = whole(begin, end);
    for (int64_t i = begin; i < last; i += kStep) {
      const Normals g = normals_at(map.key, i);
      store(out + i, g.first);
      store(out + i + kLanes, g.second);
    }
    if (last < end) kFastfood.normals(map, last, end, out);
  }

  static constexpr FastfoodBlocks kBlocks = {spread, collect, normals};
};

#undef GRAFT_INLINE

}  // namespace graft::ops::GRAFT_FASTFOOD_NAMESPACE
