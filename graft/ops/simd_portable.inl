// Sixteen float lanes in the compiler's own vectors: what kernels run on where there is no AVX-512 with
// bfloat16.

typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Pairs __attribute__((vector_size(64)));

/// A product's tile: sums wander between registers and stack here, whatever their number.
constexpr int kTileRows = 2, kTileVecs = 4;
/// What attention's products are packed as.
template <class T>
using PackedAs = T;

inline Vec vset(float value) { return Vec{} + value; }
inline Vec vload(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec vload(const Half* p) {
  Pairs bits;
  for (int i = 0; i < 16; ++i) bits[i] = static_cast<int32_t>(uint32_t{p[i].x} << 16);
  return reinterpret_cast<Vec>(bits);
}
/// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t narrow_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}
inline void vstore(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline void vstore(Half* p, Vec v) {
  for (int i = 0; i < 16; ++i) p[i].x = narrow_bits(v[i]);
}
inline Vec vload_first(const float* p, int64_t n) {
  Vec v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
inline Vec vload_first(const Half* p, int64_t n) {
  Pairs bits{};
  for (int64_t i = 0; i < n; ++i) bits[i] = static_cast<int32_t>(uint32_t{p[i].x} << 16);
  return reinterpret_cast<Vec>(bits);
}
inline void vstore_first(float* p, Vec v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
inline void vstore_first(Half* p, Vec v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i].x = narrow_bits(v[i]);
}

inline Vec vfma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
inline Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
inline Vec vsqrt(Vec a) {
  for (int i = 0; i < 16; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
inline float vsum(Vec a) {
  float total = 0;
  for (int i = 0; i < 16; ++i) total += a[i];
  return total;
}
inline void vsum_four(const Vec (&v)[4], float* out) {
  for (int i = 0; i < 4; ++i) out[i] = vsum(v[i]);
}
inline float vhighest(Vec a) {
  float highest = a[0];
  for (int i = 1; i < 16; ++i) highest = a[i] > highest ? a[i] : highest;
  return highest;
}
inline Vec vabs(Vec a) { return reinterpret_cast<Vec>(reinterpret_cast<Pairs>(a) & 0x7FFFFFFF); }
inline Vec vcopysign(Vec a, Vec b) {
  return reinterpret_cast<Vec>((reinterpret_cast<Pairs>(a) & 0x7FFFFFFF) |
                               (reinterpret_cast<Pairs>(b) & INT32_MIN));
}
inline Vec vstep(Vec a) { return a > vset(0.0f) ? vset(1.0f) : vset(0.0f); }
inline Vec vscale2(Vec p, Vec n) {
  // Two factors, so that the exponent's ends are reached; n stays within [-252, 252].
  Pairs whole;
  for (int i = 0; i < 16; ++i) whole[i] = static_cast<int32_t>(n[i]);
  const Pairs half = whole / 2;
  return p * reinterpret_cast<Vec>((half + 127) << 23) * reinterpret_cast<Vec>((whole - half + 127) << 23);
}
inline Vec vround(Vec a) {
  for (int i = 0; i < 16; ++i) a[i] = __builtin_rintf(a[i]);
  return a;
}
inline Vec vbetween(Vec a, int64_t low, int64_t high, Vec other) {
  for (int64_t i = 0; i < 16; ++i) a[i] = i >= low && i < high ? a[i] : other[i];
  return a;
}

inline Vec vdot(Vec c, Pairs a, Pairs b, Half) {
  const Vec low = reinterpret_cast<Vec>(a << 16) * reinterpret_cast<Vec>(b << 16);
  return c + low +
         reinterpret_cast<Vec>(a & static_cast<int32_t>(0xFFFF0000)) *
             reinterpret_cast<Vec>(b & static_cast<int32_t>(0xFFFF0000));
}
inline Vec vdot(Vec c, Pairs a, Pairs b, float) {
  return c + reinterpret_cast<Vec>(a) * reinterpret_cast<Vec>(b);
}
inline Pairs pbyte(Pairs a, int which) { return a << (24 - 8 * which) >> 24; }
inline Pairs pdot_bytes(Pairs c, Pairs a, Pairs b) {
  for (int byte = 0; byte < 4; ++byte) c += (a >> (8 * byte) & 0xFF) * pbyte(b, byte);
  return c;
}
inline Pairs pminus(Pairs a, Pairs b) { return a - b; }
inline Pairs pplus(Pairs a, Pairs b) { return a + b; }
inline Vec vwhole(Pairs a) { return __builtin_convertvector(a, Vec); }
inline void vstore_bytes(uint8_t* p, Vec v) {
  for (int i = 0; i < 16; ++i) {
    // A row that is not a number has no bytes that matter.
    const float whole = __builtin_rintf(v[i]);
    p[i] = whole >= -128.0f && whole <= 127.0f ? static_cast<uint8_t>(static_cast<int>(whole) + 128) : 128;
  }
}
inline Vec vwithin(Vec a, Vec b) { return a <= b ? a : Vec{}; }
inline uint32_t vabove(Vec a, Vec b) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= (a[i] > b[i] ? 1u : 0u) << i;
  return bits;
}
inline Pairs pload(const void* p) {
  Pairs v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Pairs pload_first(const void* p, int64_t n) {
  Pairs v{};
  std::memcpy(&v, p, static_cast<size_t>(n) * 4);
  return v;
}
inline void pstore(void* p, Pairs v) { std::memcpy(p, &v, sizeof v); }
inline Pairs pset(const void* p) {
  int32_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return Pairs{} + bits;
}
inline Pairs pzero() { return Pairs{}; }
inline Pairs pjoin(Vec low, Vec high) {
  Pairs joined;
  for (int i = 0; i < 16; ++i) {
    joined[i] = static_cast<int32_t>(uint32_t{narrow_bits(low[i])} | (uint32_t{narrow_bits(high[i])} << 16));
  }
  return joined;
}
inline Pairs pjoin_rows(const Half* low, const Half* high, int64_t n) {
  Pairs joined{};
  for (int64_t i = 0; i < n; ++i) {
    joined[i] = static_cast<int32_t>(uint32_t{low[i].x} | (high == nullptr ? 0u : uint32_t{high[i].x} << 16));
  }
  return joined;
}
inline Pairs pbits(Vec v) { return reinterpret_cast<Pairs>(v); }
inline void ptranspose(Pairs (&r)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const int32_t kept = r[i][j];
      r[i][j] = r[j][i];
      r[j][i] = kept;
    }
  }
}

struct Words {
  uint32_t words[4][16];
};
inline Words philox_lanes(uint64_t first, uint32_t b, uint32_t c, PhiloxKey key) {
  Words out;
  for (uint32_t lane = 0; lane < 16; ++lane) {
    const auto block = philox_block({static_cast<uint32_t>(first) + lane, b, c, 0}, key);
    for (size_t w = 0; w < 4; ++w) out.words[w][lane] = block[w];
  }
  return out;
}
inline Vec vkeep(const Words& w, int word, uint32_t threshold, Vec kept) {
  for (int i = 0; i < 16; ++i) kept[i] = w.words[word][i] < threshold ? 0.0f : kept[i];
  return kept;
}
