// Stretches of the Fastfood map in AVX-512: 8 blocks of Philox, 32 normals at a time.
#include "graft/ops/fastfood_blocks.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#pragma GCC target("avx512f")
// Contracted products would round otherwise than in the other forms.
#pragma GCC optimize("fp-contract=off")
// GCC 12 takes the intrinsics' undefined operands for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace graft::ops {
namespace {

struct Words {
  __m512i radius, angle;  // 16 words each: of blocks 0 … 7, two a block
};

inline Words philox_words(uint64_t key, uint32_t first_block) {
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  __m512i c0 = _mm512_and_si512(
      low, _mm512_add_epi64(_mm512_set1_epi64(first_block), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)));
  __m512i c1 = _mm512_setzero_si512(), c2 = _mm512_set1_epi64(kDrawNormals), c3 = _mm512_setzero_si512();
  auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  // One word in the lower half of each lane; what the upper halves hold is never looked at.
  for (int round = 0; round < 10; ++round) {
    const __m512i a = _mm512_mul_epu32(c0, _mm512_set1_epi64(0xD2511F53));
    const __m512i b = _mm512_mul_epu32(c2, _mm512_set1_epi64(0xCD9E8D57));
    c0 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(b, 32), c1), _mm512_set1_epi64(k0));
    c2 = _mm512_xor_si512(_mm512_xor_si512(_mm512_srli_epi64(a, 32), c3), _mm512_set1_epi64(k1));
    c1 = b;
    c3 = a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const __mmask16 upper = 0xAAAA;
  return {_mm512_mask_blend_epi32(upper, c0, _mm512_slli_epi64(c2, 32)),
          _mm512_mask_blend_epi32(upper, c1, _mm512_slli_epi64(c3, 32))};
}

inline __m512 constant(float value) { return _mm512_set1_ps(value); }
inline __m512 times_plus(__m512 a, __m512 b, float c) {
  return _mm512_add_ps(_mm512_mul_ps(a, b), constant(c));
}

struct Normals {
  __m512 first, second;  // G[32 i] …, G[32 i + 16] …
};

inline __m512 radius_of(__m512i words) {
  using namespace box_muller;
  const __m512i above = _mm512_add_epi32(_mm512_srli_epi32(words, 8), _mm512_set1_epi32(1));
  const __m512 uniform = _mm512_mul_ps(_mm512_cvtepi32_ps(above), constant(0x1p-24f));
  const __m512i root = _mm512_set1_epi32(0x3f3504f3);
  const __m512i bits = _mm512_sub_epi32(_mm512_castps_si512(uniform), root);
  const __m512 exponent = _mm512_cvtepi32_ps(_mm512_srai_epi32(bits, 23));
  const __m512 mantissa =
      _mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffff)), root));
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(mantissa, constant(1)), _mm512_add_ps(mantissa, constant(1)));
  const __m512 s2 = _mm512_mul_ps(s, s);
  __m512 series = times_plus(constant(kLog9), s2, kLog7);
  series = times_plus(series, s2, kLog5);
  series = times_plus(series, s2, kLog3);
  series = _mm512_mul_ps(times_plus(series, s2, 2.f), s);
  const __m512 log = _mm512_add_ps(_mm512_mul_ps(exponent, constant(kLn2)), series);
  return _mm512_sqrt_ps(_mm512_mul_ps(log, constant(-2)));
}

inline Normals normals_of(const Words& words) {
  using namespace box_muller;
  const __m512 radius = radius_of(words.radius);
  const __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(words.angle), constant(kQuarterPiByWord));
  const __m512 t2 = _mm512_mul_ps(t, t);
  __m512 sine = times_plus(constant(kSin9), t2, kSin7);
  sine = times_plus(sine, t2, kSin5);
  sine = times_plus(sine, t2, kSin3);
  sine = _mm512_mul_ps(times_plus(sine, t2, 1.f), t);
  __m512 cosine = times_plus(constant(kCos10), t2, kCos8);
  cosine = times_plus(cosine, t2, kCos6);
  cosine = times_plus(cosine, t2, kCos4);
  cosine = times_plus(cosine, t2, kCos2);
  cosine = times_plus(cosine, t2, 1.f);
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(words.radius, _mm512_set1_epi32(2)), 30);
  cosine = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(cosine), sign));
  const __mmask16 swapped = _mm512_test_epi32_mask(words.radius, _mm512_set1_epi32(1));
  const __m512 a = _mm512_mul_ps(radius, _mm512_mask_blend_ps(swapped, cosine, sine));
  const __m512 b = _mm512_mul_ps(radius, _mm512_mask_blend_ps(swapped, sine, cosine));
  const __m512i front = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i back = _mm512_add_epi32(front, _mm512_set1_epi32(8));
  return {_mm512_permutex2var_ps(a, front, b), _mm512_permutex2var_ps(a, back, b)};
}

inline __m512i permuted_from(const Permutation& order, int64_t first) {
  __m512i x = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(first)),
                               _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
  const __m128i shift = _mm_cvtsi32_si128(order.shift);
  for (int round = 0; round < Permutation::kRounds; ++round) {
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32(static_cast<int32_t>(order.multiplier[round])));
    x = _mm512_add_epi32(x, _mm512_set1_epi32(static_cast<int32_t>(order.increment[round])));
    x = _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int32_t>(order.mask)));
    x = _mm512_xor_si512(x, _mm512_srl_epi32(x, shift));
  }
  return x;
}

void spread(const Fastfood& map, const Permutation& order, const float* table, uint32_t mask, int64_t begin,
            int64_t end, float* out) {
  const int64_t whole = begin + (end - begin) / kFastfoodStretch * kFastfoodStretch;
  const __m512i mask_all = _mm512_set1_epi32(static_cast<int32_t>(mask));
  for (int64_t i = begin; i < whole; i += kFastfoodStretch) {
    const Normals g = normals_of(philox_words(map.key, static_cast<uint32_t>(i / 4)));
    const __m512i front = _mm512_and_si512(permuted_from(order, i), mask_all);
    const __m512i back = _mm512_and_si512(permuted_from(order, i + 16), mask_all);
    _mm512_storeu_ps(out + i, _mm512_mul_ps(g.first, _mm512_i32gather_ps(front, table, 4)));
    _mm512_storeu_ps(out + i + 16, _mm512_mul_ps(g.second, _mm512_i32gather_ps(back, table, 4)));
  }
  if (whole < end) kFastfood.spread(map, order, table, mask, whole, end, out);
}

void collect(const Fastfood& map, const Permutation& order, const float* g, uint32_t mask, int64_t begin,
             int64_t end, float* table) {
  const int64_t whole = begin + (end - begin) / kFastfoodStretch * kFastfoodStretch;
  const __m512i mask_all = _mm512_set1_epi32(static_cast<int32_t>(mask));
  alignas(64) uint32_t index[kFastfoodStretch];
  alignas(64) float value[kFastfoodStretch];
  for (int64_t i = begin; i < whole; i += kFastfoodStretch) {
    const Normals normals = normals_of(philox_words(map.key, static_cast<uint32_t>(i / 4)));
    _mm512_store_si512(index, _mm512_and_si512(permuted_from(order, i), mask_all));
    _mm512_store_si512(index + 16, _mm512_and_si512(permuted_from(order, i + 16), mask_all));
    _mm512_store_ps(value, _mm512_mul_ps(normals.first, _mm512_loadu_ps(g + i)));
    _mm512_store_ps(value + 16, _mm512_mul_ps(normals.second, _mm512_loadu_ps(g + i + 16)));
    for (int64_t j = 0; j < kFastfoodStretch; ++j) table[index[j]] += value[j];
  }
  if (whole < end) kFastfood.collect(map, order, g, mask, whole, end, table);
}

void normals(const Fastfood& map, int64_t begin, int64_t end, float* out) {
  const int64_t whole = begin + (end - begin) / kFastfoodStretch * kFastfoodStretch;
  for (int64_t i = begin; i < whole; i += kFastfoodStretch) {
    const Normals g = normals_of(philox_words(map.key, static_cast<uint32_t>(i / 4)));
    _mm512_storeu_ps(out + i, g.first);
    _mm512_storeu_ps(out + i + 16, g.second);
  }
  if (whole < end) kFastfood.normals(map, whole, end, out);
}

constexpr FastfoodBlocks kBlocks = {spread, collect, normals};

}  // namespace

const FastfoodBlocks* fastfood_avx512() { return __builtin_cpu_supports("avx512f") ? &kBlocks : nullptr; }

}  // namespace graft::ops
#else
namespace graft::ops {
const FastfoodBlocks* fastfood_avx512() { return nullptr; }
}  // namespace graft::ops
#endif
