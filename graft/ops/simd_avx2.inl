// Sixteen float lanes by AVX2 and FMA: two registers of eight. Included into one namespace a processor
// (kernels_*.cpp).

struct Vec {
  __m256 low, high;
};
/// Sixteen pairs of bfloat16, or sixteen floats' bits.
struct Pairs {
  __m256i low, high;
};

/// A product's tile: with one vector a row, the sums take 12 of 16 registers.
constexpr int kTileRows = 6, kTileVecs = 1;
/// What attention's products are packed as: pairs would be taken apart in each step.
template <class T>
using PackedAs = float;

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }

inline __m256i load_bits(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_bits(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline Vec vbits(Pairs a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
inline Pairs pbits(Vec a) { return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }

inline Vec vset(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Vec vload(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void vstore(float* p, Vec v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}

/// Sixteen bfloat16 as floats.
inline Vec widened(__m256i halves) {
  const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(halves)),
                high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(halves, 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
}
/// The bits of eight floats rounded to bfloat16, in the upper halves; the lower ones are of no use. To
/// nearest, ties to even; NaN stays NaN.
inline __m256i rounded_bits(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
  const __m256i near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
  const __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
  return _mm256_castps_si256(
      _mm256_blendv_ps(_mm256_castsi256_ps(near), quiet, _mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}
/// Sixteen floats as bfloat16.
inline __m256i narrowed(Vec v) {
  const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(rounded_bits(v.low), 16),
                                             _mm256_srli_epi32(rounded_bits(v.high), 16));
  return _mm256_permute4x64_epi64(packed, 0xD8);
}
inline Vec vload(const Half* p) {
  const auto eight = [](const Half* x) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  };
  return {eight(p), eight(p + 8)};
}
inline void vstore(Half* p, Vec v) { store_bits(p, narrowed(v)); }

alignas(64) constexpr int32_t kLanes[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                            0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};
/// All bits in the first n of sixteen lanes. 0 ≤ n ≤ 16.
inline Pairs first_lanes(int64_t n) { return {load_bits(kLanes + 16 - n), load_bits(kLanes + 24 - n)}; }

inline Pairs pload_first(const void* p, int64_t n) {
  const Pairs mask = first_lanes(n);
  const auto* const x = static_cast<const int*>(p);
  // The second half's place may lie beyond what there is: a masked load does not look there.
  return {_mm256_maskload_epi32(x, mask.low), _mm256_maskload_epi32(x + 8, mask.high)};
}
/// The first n of sixteen lanes, the others zero. 0 ≤ n ≤ 16.
inline Vec vload_first(const float* p, int64_t n) { return n == 16 ? vload(p) : vbits(pload_first(p, n)); }
/// The first n of sixteen 16-bit values, the others zero.
inline __m256i load_first_halves(const Half* p, int64_t n) {
  const __m256i pairs = _mm256_maskload_epi32(reinterpret_cast<const int*>(p), first_lanes(n / 2).low);
  if (n % 2 == 0) return pairs;
  const __m256i place = _mm256_andnot_si256(first_lanes(n / 2).low, first_lanes(n / 2 + 1).low);
  return _mm256_or_si256(pairs, _mm256_and_si256(place, _mm256_set1_epi32(p[n - 1].x)));
}
inline Vec vload_first(const Half* p, int64_t n) {
  return n == 16 ? vload(p) : widened(load_first_halves(p, n));
}
/// By halves: masked stores are slow on some processors.
inline void vstore_first(float* p, Vec v, int64_t n) {
  if (n == 16) return vstore(p, v);
  if (n & 8) {
    _mm256_storeu_ps(p, v.low);
    p += 8, v.low = v.high;
  }
  __m128 x = _mm256_castps256_ps128(v.low);
  if (n & 4) {
    _mm_storeu_ps(p, x);
    p += 4, x = _mm256_extractf128_ps(v.low, 1);
  }
  if (n & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), x);
    p += 2, x = _mm_movehl_ps(x, x);
  }
  if (n & 1) _mm_store_ss(p, x);
}
inline void vstore_first(Half* p, Vec v, int64_t n) {
  if (n == 16) return vstore(p, v);
  const __m256i halves = narrowed(v);
  __m128i x = _mm256_castsi256_si128(halves);
  if (n & 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
    p += 8, x = _mm256_extracti128_si256(halves, 1);
  }
  if (n & 4) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), x);
    p += 4, x = _mm_unpackhi_epi64(x, x);
  }
  uint32_t two = static_cast<uint32_t>(_mm_cvtsi128_si32(x));
  if (n & 2) {
    std::memcpy(p, &two, 4);
    p += 2, two = static_cast<uint32_t>(_mm_extract_epi32(x, 1));
  }
  if (n & 1) p->x = static_cast<uint16_t>(two);
}

inline Vec vfma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Vec vmax(Vec a, Vec b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Vec vmin(Vec a, Vec b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Vec vsqrt(Vec a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
inline float vsum(Vec a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
/// Four vectors' sums.
inline void vsum_four(const Vec (&v)[4], float* out) {
  const auto eight = [&](int i) { return _mm256_add_ps(v[i].low, v[i].high); };
  const __m256 four = _mm256_hadd_ps(_mm256_hadd_ps(eight(0), eight(1)), _mm256_hadd_ps(eight(2), eight(3)));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1)));
}
inline float vhighest(Vec a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline Vec vand(Vec a, Vec b) { return {_mm256_and_ps(a.low, b.low), _mm256_and_ps(a.high, b.high)}; }
inline Vec vandnot(Vec a, Vec b) {
  return {_mm256_andnot_ps(a.low, b.low), _mm256_andnot_ps(a.high, b.high)};
}
inline Vec vabs(Vec a) { return vandnot(vset(-0.0f), a); }
/// |a| with the sign of b.
inline Vec vcopysign(Vec a, Vec b) {
  const Vec sign = vand(vset(-0.0f), b), size = vabs(a);
  return {_mm256_or_ps(sign.low, size.low), _mm256_or_ps(sign.high, size.high)};
}
inline Vec vgreater(Vec a, Vec b) {
  return {_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)};
}
/// 1 where a > 0, else 0.
inline Vec vstep(Vec a) { return vand(vgreater(a, vset(0.0f)), vset(1.0f)); }
/// 2ⁿ of whole n within a float's exponents.
inline __m256 power2(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline __m256 scale2(__m256 p, __m256 n) {
  // Two factors, so that the exponent's ends are reached; n stays within [-252, 252].
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
  return _mm256_mul_ps(_mm256_mul_ps(p, power2(half)), power2(_mm256_sub_epi32(whole, half)));
}
/// 2ⁿ p for a whole n.
inline Vec vscale2(Vec p, Vec n) { return {scale2(p.low, n.low), scale2(p.high, n.high)}; }
inline Vec vround(Vec a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.low, kNearest), _mm256_round_ps(a.high, kNearest)};
}
inline Vec vblend(Vec a, Vec b, Vec mask) {
  return {_mm256_blendv_ps(a.low, b.low, mask.low), _mm256_blendv_ps(a.high, b.high, mask.high)};
}
/// `other` in lanes outside [low, high).
inline Vec vbetween(Vec a, int64_t low, int64_t high, Vec other) {
  const int64_t first = low < 0 ? 0 : low > 16 ? 16 : low, last = high < 0 ? 0 : high > 16 ? 16 : high;
  return vblend(other, a, vandnot(vbits(first_lanes(first)), vbits(first_lanes(last))));
}

inline __m256 lower_half(__m256i pair) { return _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)); }
inline __m256 upper_half(__m256i pair) {
  return _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
}
/// a · b of each pair, added to c in float32 (bfloat16), or the product of the floats.
inline Vec vdot(Vec c, Pairs a, Pairs b, Half) {
  const Vec first = vfma({lower_half(a.low), lower_half(a.high)}, {lower_half(b.low), lower_half(b.high)}, c);
  return vfma({upper_half(a.low), upper_half(a.high)}, {upper_half(b.low), upper_half(b.high)}, first);
}
inline Vec vdot(Vec c, Pairs a, Pairs b, float) { return vfma(vbits(a), vbits(b), c); }
inline Pairs pminus(Pairs a, Pairs b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline Pairs pplus(Pairs a, Pairs b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
/// The signed byte `which` of each unit.
inline Pairs pbyte(Pairs a, int which) {
  const __m128i up = _mm_cvtsi32_si128(24 - 8 * which);
  return {_mm256_srai_epi32(_mm256_sll_epi32(a.low, up), 24),
          _mm256_srai_epi32(_mm256_sll_epi32(a.high, up), 24)};
}
/// Bytes 0 and 2, and 1 and 3, of each unit as signed 16-bit values.
inline __m256i even_bytes(__m256i a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); }
inline __m256i odd_bytes(__m256i a) { return _mm256_srai_epi16(a, 8); }
inline Vec vwhole(Pairs a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
/// Sixteen values, rounded, plus 128, as bytes.
inline void vstore_bytes(uint8_t* p, Vec v) {
  const __m256i words = _mm256_permute4x64_epi64(
      _mm256_packs_epi32(_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high)), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
}
/// a where it is at most b, else 0.
inline Vec vwithin(Vec a, Vec b) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.low, b.low, _CMP_LE_OQ), a.low),
          _mm256_and_ps(_mm256_cmp_ps(a.high, b.high, _CMP_LE_OQ), a.high)};
}
/// Bit i: lane i of a is above b.
inline uint32_t vabove(Vec a, Vec b) {
  const Vec above = vgreater(a, b);
  return static_cast<uint32_t>(_mm256_movemask_ps(above.low)) |
         static_cast<uint32_t>(_mm256_movemask_ps(above.high)) << 8;
}
inline Pairs pload(const void* p) { return {load_bits(p), load_bits(static_cast<const char*>(p) + 32)}; }
inline void pstore(void* p, Pairs v) {
  store_bits(p, v.low);
  store_bits(static_cast<char*>(p) + 32, v.high);
}
inline Pairs pset(const void* p) {
  int32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return {_mm256_set1_epi32(bits), _mm256_set1_epi32(bits)};
}
inline Pairs pzero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
/// Lane i: (low's lane i, high's lane i) as a pair of bfloat16.
inline Pairs pjoin(Vec low, Vec high) {
  const auto joined = [](__m256 l, __m256 h) {
    return _mm256_blend_epi16(_mm256_srli_epi32(rounded_bits(l), 16), rounded_bits(h), 0xAA);
  };
  return {joined(low.low, high.low), joined(low.high, high.high)};
}
/// The same of the first n values of two rows; a row that is not there (null) counts as zeros.
inline Pairs pjoin_rows(const Half* low, const Half* high, int64_t n) {
  const __m256i l = n == 16 ? load_bits(low) : load_first_halves(low, n);
  const __m256i h = high == nullptr ? _mm256_setzero_si256()
                    : n == 16       ? load_bits(high)
                                    : load_first_halves(high, n);
  const __m256i first = _mm256_unpacklo_epi16(l, h), second = _mm256_unpackhi_epi16(l, h);
  return {_mm256_permute2x128_si256(first, second, 0x20), _mm256_permute2x128_si256(first, second, 0x31)};
}

/// Eight rows of eight 32-bit values, turned.
inline void transpose8(__m256i (&r)[8]) {
  __m256i t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  __m256i u[8];
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
  }
}
/// Sixteen rows of sixteen 32-bit values, turned in place.
inline void ptranspose(Pairs (&r)[16]) {
  __m256i corner[4][8];  // rows' first and last eight, of the first and the last eight rows
  for (int i = 0; i < 8; ++i) {
    corner[0][i] = r[i].low, corner[1][i] = r[i].high;
    corner[2][i] = r[i + 8].low, corner[3][i] = r[i + 8].high;
  }
  for (auto& block : corner) transpose8(block);
  for (int i = 0; i < 8; ++i) {
    r[i] = {corner[0][i], corner[2][i]};
    r[i + 8] = {corner[1][i], corner[3][i]};
  }
}

/// Philox words of counters (first + lane, b, c, 0): the w-th word of lane i in words[w].
struct Words {
  Pairs words[4];
};
inline __m256i multiply_high(__m256i a, __m256i b) {
  const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
  return _mm256_blend_epi32(even, odd, 0xAA);
}
/// Eight lanes' words.
inline void philox_eight(__m256i c0, uint32_t b, uint32_t c, PhiloxKey key, __m256i (&out)[4]) {
  __m256i c1 = _mm256_set1_epi32(static_cast<int>(b)), c2 = _mm256_set1_epi32(static_cast<int>(c)),
          c3 = _mm256_setzero_si256();
  const __m256i m0 = _mm256_set1_epi32(static_cast<int>(0xD2511F53u)),
                m1 = _mm256_set1_epi32(static_cast<int>(0xCD9E8D57u));
  for (int round = 0; round < 10; ++round) {
    const __m256i h0 = multiply_high(c0, m0), l0 = _mm256_mullo_epi32(c0, m0);
    const __m256i h1 = multiply_high(c2, m1), l1 = _mm256_mullo_epi32(c2, m1);
    c0 = _mm256_xor_si256(_mm256_xor_si256(h1, c1), _mm256_set1_epi32(static_cast<int>(key.low)));
    c1 = l1;
    c2 = _mm256_xor_si256(_mm256_xor_si256(h0, c3), _mm256_set1_epi32(static_cast<int>(key.high)));
    c3 = l0;
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
inline Words philox_lanes(uint64_t first, uint32_t b, uint32_t c, PhiloxKey key) {
  const __m256i start = _mm256_set1_epi32(static_cast<int>(first));
  __m256i low[4], high[4];
  philox_eight(_mm256_add_epi32(start, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), b, c, key, low);
  philox_eight(_mm256_add_epi32(start, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)), b, c, key, high);
  Words out;
  for (int w = 0; w < 4; ++w) out.words[w] = {low[w], high[w]};
  return out;
}
/// `kept` in lanes whose word is at least the threshold, else 0.
inline Vec vkeep(const Words& w, int word, uint32_t threshold, Vec kept) {
  const __m256i bound = _mm256_set1_epi32(static_cast<int>(threshold));
  const auto enough = [&](__m256i x) { return _mm256_cmpeq_epi32(_mm256_max_epu32(x, bound), x); };
  return vand(vbits({enough(w.words[word].low), enough(w.words[word].high)}), kept);
}
