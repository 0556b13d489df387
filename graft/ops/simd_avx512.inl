// Sixteen float lanes by AVX-512 and its bfloat16 extension. Included into one namespace a processor
// (kernels_*.cpp).

using Vec = __m512;
using Pairs = __m512i;  // sixteen pairs of bfloat16, or sixteen floats' bits

/// A product's tile: with four vectors a row, the sums take 24 of 32 registers.
constexpr int kTileRows = 6, kTileVecs = 4;
/// What attention's products are packed as.
template <class T>
using PackedAs = T;

inline Vec vset(float value) { return _mm512_set1_ps(value); }
inline Vec vload(const float* p) { return _mm512_loadu_ps(p); }
inline Vec vload(const Half* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline void vstore(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline void vstore(Half* p, Vec v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
/// The first n of sixteen lanes, the others zero. 0 ≤ n ≤ 16.
inline Vec vload_first(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline Vec vload_first(const Half* p, int64_t n) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p)), 16));
}
inline void vstore_first(float* p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
inline void vstore_first(Half* p, Vec v, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

inline Vec vfma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec vsqrt(Vec a) { return _mm512_sqrt_ps(a); }
inline float vsum(Vec a) { return _mm512_reduce_add_ps(a); }
/// Four vectors' sums.
inline void vsum_four(const Vec (&v)[4], float* out) {
  for (int i = 0; i < 4; ++i) out[i] = vsum(v[i]);
}
inline float vhighest(Vec a) { return _mm512_reduce_max_ps(a); }
inline Vec vabs(Vec a) { return _mm512_abs_ps(a); }
/// |a| with the sign of b.
inline Vec vcopysign(Vec a, Vec b) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(b),
                                                       _mm512_castps_si512(a), 0xCA));
}
/// 1 where a > 0, else 0.
inline Vec vstep(Vec a) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), _mm512_set1_ps(1.0f));
}
/// 2ⁿ p for a whole n.
inline Vec vscale2(Vec p, Vec n) { return _mm512_scalef_ps(p, n); }
inline Vec vround(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// `other` in lanes outside [low, high).
inline Vec vbetween(Vec a, int64_t low, int64_t high, Vec other) {
  const int64_t first = low < 0 ? 0 : low > 16 ? 16 : low, last = high < 0 ? 0 : high > 16 ? 16 : high;
  const auto mask = static_cast<__mmask16>(first_lanes(last) & ~first_lanes(first));
  return _mm512_mask_blend_ps(mask, other, a);
}

/// a · b of each pair, added to c in float32 (bfloat16), or the product of the floats.
inline Vec vdot(Vec c, Pairs a, Pairs b, Half) {
  return _mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
inline Vec vdot(Vec c, Pairs a, Pairs b, float) {
  return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), c);
}
/// Four products of unsigned bytes of a by signed ones of b, added to c as whole numbers.
inline Pairs pdot_bytes(Pairs c, Pairs a, Pairs b) { return _mm512_dpbusd_epi32(c, a, b); }
inline Pairs pminus(Pairs a, Pairs b) { return _mm512_sub_epi32(a, b); }
inline Pairs pplus(Pairs a, Pairs b) { return _mm512_add_epi32(a, b); }
/// The signed byte `which` of each unit.
inline Pairs pbyte(Pairs a, int which) {
  return _mm512_srai_epi32(_mm512_sll_epi32(a, _mm_cvtsi32_si128(24 - 8 * which)), 24);
}
inline Vec vwhole(Pairs a) { return _mm512_cvtepi32_ps(a); }
/// Sixteen values, rounded, plus 128, as bytes.
inline void vstore_bytes(uint8_t* p, Vec v) {
  const __m512i shifted = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(128));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(shifted));
}
/// a where it is at most b, else 0.
inline Vec vwithin(Vec a, Vec b) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ), a); }
/// Bit i: lane i of a is above b.
inline uint32_t vabove(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline Pairs pload(const void* p) { return _mm512_loadu_si512(p); }
inline Pairs pload_first(const void* p, int64_t n) { return _mm512_maskz_loadu_epi32(first_lanes(n), p); }
inline void pstore(void* p, Pairs v) { _mm512_storeu_si512(p, v); }
inline Pairs pset(const void* p) {
  int32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return _mm512_set1_epi32(bits);
}
inline Pairs pzero() { return _mm512_setzero_si512(); }
/// Lane i: (low's lane i, high's lane i) as a pair of bfloat16.
inline Pairs pjoin(Vec low, Vec high) {
  const __m512i l = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(low)));
  const __m512i h = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(high)));
  return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}
/// The same of the first n values of two rows; a row that is not there (null) counts as zeros.
inline Pairs pjoin_rows(const Half* low, const Half* high, int64_t n) {
  const __m512i l = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), low));
  if (high == nullptr) return l;
  return _mm512_or_si512(
      l, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), high)), 16));
}
inline Pairs pbits(Vec v) { return _mm512_castps_si512(v); }

/// Sixteen rows of sixteen 32-bit values, turned in place.
inline void ptranspose(Pairs (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

/// Philox words of counters (first + lane, b, c, 0): the w-th word of lane i in words[w].
struct Words {
  __m512i words[4];
};
/// Every second counter is in a vector of its own, in the low halves of 64 bits, so that one multiplication
/// gives both halves of a product; what the upper halves hold does not count.
inline Words philox_lanes(uint64_t first, uint32_t b, uint32_t c, PhiloxKey key) {
  const __m512i by[2] = {_mm512_set1_epi64(0xD2511F53u), _mm512_set1_epi64(0xCD9E8D57u)};
  const __m512i step[2] = {_mm512_set1_epi64(0x9E3779B9u), _mm512_set1_epi64(0xBB67AE85u)};
  __m512i keys[2] = {_mm512_set1_epi64(key.low), _mm512_set1_epi64(key.high)};
  const __m512i lanes = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  __m512i words[4][2];
  for (int odd = 0; odd < 2; ++odd) {
    words[0][odd] = _mm512_add_epi32(_mm512_set1_epi64(static_cast<int64_t>(first) + odd), lanes);
    words[1][odd] = _mm512_set1_epi64(b);
    words[2][odd] = _mm512_set1_epi64(c);
    words[3][odd] = pzero();
  }
  const auto mixed = [](__m512i product, __m512i word, __m512i k) {
    return _mm512_ternarylogic_epi64(_mm512_srli_epi64(product, 32), word, k,
                                     0x96);  // of three, exclusive or
  };
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const __m512i x = _mm512_mul_epu32(words[0][odd], by[0]), y = _mm512_mul_epu32(words[2][odd], by[1]);
      words[0][odd] = mixed(y, words[1][odd], keys[0]);
      words[1][odd] = y;
      words[2][odd] = mixed(x, words[3][odd], keys[1]);
      words[3][odd] = x;
    }
    for (int k = 0; k < 2; ++k) keys[k] = _mm512_add_epi32(keys[k], step[k]);
  }
  Words out;
  for (int w = 0; w < 4; ++w)
    out.words[w] = _mm512_mask_blend_epi32(0xAAAA, words[w][0], _mm512_slli_epi64(words[w][1], 32));
  return out;
}
/// `kept` in lanes whose word is at least the threshold, else 0.
inline Vec vkeep(const Words& w, int word, uint32_t threshold, Vec kept) {
  return _mm512_maskz_mov_ps(
      _mm512_cmpge_epu32_mask(w.words[word], _mm512_set1_epi32(static_cast<int>(threshold))), kept);
}
