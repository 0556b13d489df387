// Products on panels where sixteen registers hold the tile of one vector: the summed units go by in blocks,
// so that a strip of sixteen columns stays in the first cache while the rows' tiles pass over it, and a block
// of the rows in the second (Goto and van de Geijn 2008; Van Zee and van de Geijn 2015). What is narrower
// than the processor multiplies is widened once a block.

constexpr int64_t kPieceColumns = 6 * kPanel;
/// Strips, not panels, are what goes side by side here.
constexpr int64_t kStreamRows = 2, kStreamPanels = 1;
/// Steps of the sum in a block, 16 KB of a widened strip, and in one where one tile holds all rows and strips
/// stream by.
constexpr int64_t kBlockSteps = 256, kStreamSteps = 4096, kStreamAhead = 16 * 128;
static_assert(kStreamSteps * kTileRows <= kPieceRows * kBlockSteps);

/// What a unit holds: one float, two bfloat16, four signed bytes; or, widened, two 16-bit values. A step of
/// the sum takes a float, or two whole numbers.
template <class T>
inline constexpr int64_t kSteps = 1;
template <>
inline constexpr int64_t kSteps<Half> = 2;
template <>
inline constexpr int64_t kSteps<int8_t> = 2;

template <class T>
struct Widened {
  using Type = float;
  using Sum = Vec;
};
template <>
struct Widened<int8_t> {
  using Type = int16_t;
  using Sum = Pairs;
};
template <>
struct Widened<int16_t> : Widened<int8_t> {};

/// Sixteen units' part of step `step`.
inline Vec step_of(Pairs units, int, float) { return vbits(units); }
inline Vec step_of(Pairs units, int step, Half) {
  if (step == 0) return {lower_half(units.low), lower_half(units.high)};
  return {upper_half(units.low), upper_half(units.high)};
}
inline Pairs step_of(Pairs units, int step, int8_t) {
  if (step == 0) return {even_bytes(units.low), even_bytes(units.high)};
  return {odd_bytes(units.low), odd_bytes(units.high)};
}
inline Pairs step_of(Pairs units, int, int16_t) { return units; }

inline void add_step(Vec& sum, const int32_t* left, Vec right) {
  float x;
  std::memcpy(&x, left, sizeof x);
  sum = vfma(vset(x), right, sum);
}
/// The compiler would keep sums twice, and have no registers left.
inline void add_in_place(__m256i& sum, __m256i added) { asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(added)); }
inline void add_step(Pairs& sum, const int32_t* left, Pairs right) {
  const __m256i x = _mm256_set1_epi32(*left);
  add_in_place(sum.low, _mm256_madd_epi16(x, right.low));
  add_in_place(sum.high, _mm256_madd_epi16(x, right.high));
}
inline void add_sum(int32_t* p, Vec sum) { pstore(p, pbits(vbits(pload(p)) + sum)); }
inline void add_sum(int32_t* p, Pairs sum) { pstore(p, pplus(pload(p), sum)); }
inline Pairs bits_of(Vec v) { return pbits(v); }
inline Pairs bits_of(Pairs v) { return v; }

/// Where a tile's sides lie: the left one step by step, its rows side by side, the right one in units,
/// `strip` from one strip to the next.
struct TileSides {
  const int32_t *left, *right;
  int64_t strip, units;
  int32_t* sums;       // kPieceColumns apart
  const int32_t* ask;  // what to ask memory for meanwhile, a line a unit, this far apart
  int64_t ask_step;
};

/// Adds a tile's product to its sums. Each block's own sum stays in registers from its first unit to its
/// last, and is added whole: a long sum keeps its precision, and does not depend on the company of its row.
template <class T, int kRows, int kStrips, bool kAhead>
void blocked_tile(const TileSides& t) {
  const int32_t *left = t.left, *right = t.right, *ask = t.ask;
  for (int64_t first = 0; first < t.units; first += kBlockSteps / kSteps<T>) {
    typename Widened<T>::Sum sum[kRows][kStrips] = {};
    const int32_t* const end = right + 16 * std::min(t.units - first, kBlockSteps / kSteps<T>);
    do {
#pragma GCC unroll 4
      for (int s = 0; s < kStrips; ++s) {
        if constexpr (kAhead) _mm_prefetch(ask + s * t.strip, _MM_HINT_T1);
#pragma GCC unroll 2
        for (int step = 0; step < kSteps<T>; ++step) {
          const auto columns = step_of(pload(right + s * t.strip), step, T{});
#pragma GCC unroll 6
          for (int m = 0; m < kRows; ++m) add_step(sum[m][s], left + kRows * step + m, columns);
        }
      }
      left += kRows * kSteps<T>, right += 16, ask += t.ask_step;
    } while (right != end);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int s = 0; s < kStrips; ++s) add_sum(t.sums + m * kPieceColumns + 16 * s, sum[m][s]);
    }
  }
}

/// A piece's rows, the strip that is at work, and the sums.
struct PieceScratch {
  alignas(64) int32_t left[kPieceRows * kBlockSteps + 64];  // interleaving goes beyond a tile's end
  alignas(64) int32_t rows[8 * (kBlockSteps + 8)];
  alignas(64) int32_t strip[16 * kBlockSteps];
  alignas(64) int32_t sums[kPieceRows * kPieceColumns];
};

/// Tiles up to which a strip's units are widened by each on the way.
constexpr int64_t kNarrowTiles = 3;

/// Rows of one tile where the right side's steps are made on the way: these need registers too.
template <class T>
inline constexpr int kNarrowRows = kSteps<T> == 1 ? kTileRows : kTileRows - 1;

/// All strips by one tile of rows. The fewer rows, the more strips side by side: sums wait for each other.
template <class T, int kRows>
void stream_strips(TileSides t, int64_t strips) {
  constexpr int kSide = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
  const auto next = [&](int count) { t.right += count * t.strip, t.sums += 16 * count, strips -= count; };
  const auto ahead = [&]() -> const TileSides& {
    t.ask = t.right + kStreamAhead;
    return t;
  };
  // Where strips go side by side, the processor sees for itself what comes.
  for (; strips >= kSide; next(kSide)) blocked_tile<T, kRows, kSide, kSide <= 2>(ahead());
  if constexpr (kSide > 1) {
    for (; strips > 0; next(1)) blocked_tile<T, kRows, 1, true>(ahead());
  }
}

/// A strip's tiles; evenly, they ask for the next strip, `units` of it that start at `next`.
template <class T, int kMost>
void strip_tiles(TileSides t, int64_t rows, const int32_t* next, int64_t units) {
  const int64_t tiles = (rows + kMost - 1) / kMost, asks = tiles * t.units;
  t.ask_step = (16 * units + asks - 1) / asks;
  each_tile<kMost>(rows, [&](auto height, int64_t row) {
    constexpr int kRows = decltype(height)::value;
    TileSides tile = t;
    tile.left += row * t.units * kSteps<T>, tile.sums += row * kPieceColumns;
    tile.ask = next;
    next += t.ask_step * t.units;
    blocked_tile<T, kRows, 1, true>(tile);
  });
}

/// Widening the strip pays from a few tiles on.
template <class T>
bool strips_stay_narrow(int64_t rows) {
  return kSteps<T> == 1 || rows <= kNarrowTiles * kNarrowRows<T>;
}

/// A strip of a block by all rows.
template <class T>
void block_strip(TileSides t, int64_t rows, int32_t* room) {
  using Wide = typename Widened<T>::Type;
  const int32_t* const next = t.right + t.strip;
  if (strips_stay_narrow<T>(rows)) return strip_tiles<T, kNarrowRows<T>>(t, rows, next, t.units);
  if constexpr (kSteps < T >> 1) {
    for (int64_t k = 0; k < t.units; ++k) {
      for (int step = 0; step < kSteps<T>; ++step)
        pstore(room + 16 * (kSteps<T> * k + step), bits_of(step_of(pload(t.right + 16 * k), step, T{})));
    }
    t.right = room;
    const int64_t units = t.units;
    t.units *= kSteps<T>;
    strip_tiles<Wide, kTileRows>(t, rows, next, units);
  }
}

/// Rows of `steps` steps, kBlockSteps + 8 apart, side by side: out [steps][kRows]. May write up to eight
/// times kRows values more.
template <int kRows>
void interleave(const int32_t* rows, int64_t steps, int32_t* out) {
  for (int64_t k = 0; k < steps; k += 8) {
    __m256i turned[8];
#pragma GCC unroll 8
    for (int m = 0; m < 8; ++m)
      turned[m] = m < kRows ? load_bits(rows + m * (kBlockSteps + 8) + k) : _mm256_setzero_si256();
    transpose8(turned);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) store_bits(out + (k + i) * kRows, turned[i]);
  }
}

/// The rows' steps of a block of units, tile by tile.
template <class T, int kMost, class Widen>
void pack_left(int64_t rows, int64_t first, int64_t units, PieceScratch& scratch, const Widen& widen) {
  each_tile<kMost>(rows, [&](auto height, int64_t row) {
    constexpr int kRows = decltype(height)::value;
    int32_t* out = scratch.left + row * units * kSteps<T>;
    constexpr int64_t kMostUnits = kBlockSteps / kSteps<T>;
    for (int64_t at = 0; at < units; at += kMostUnits, out += kRows * kBlockSteps) {
      const int64_t count = std::min(kMostUnits, units - at);
      for (int m = 0; m < kRows; ++m) widen(row + m, first + at, count, scratch.rows + m * (kBlockSteps + 8));
      interleave<kRows>(scratch.rows, count * kSteps<T>, out);
    }
  });
}

/// Adds a piece's product to its sums. widen(row, first unit, units, out): a row's steps.
template <class T, class Widen>
void blocked_sums(int64_t rows, int64_t units, int64_t columns, const int32_t* panel, PieceScratch& scratch,
                  const Widen& widen) {
  const int64_t strips = (columns + 15) / 16;
  const bool stream = rows <= kNarrowRows<T>, narrow = strips_stay_narrow<T>(rows);
  const int64_t block = (stream ? kStreamSteps : kBlockSteps) / kSteps<T>;
  for (int64_t first = 0; first < units; first += block) {
    const int64_t count = std::min(block, units - first);
    if (narrow) {
      pack_left<T, kNarrowRows<T>>(rows, first, count, scratch, widen);
    } else {
      pack_left<T, kTileRows>(rows, first, count, scratch, widen);
    }
    TileSides t = {scratch.left, panel + 16 * first, 16 * units, count, scratch.sums, nullptr, 16};
    if (stream) {
      tile_of_height<kNarrowRows<T>>(
          rows, 0, [&](auto height, int64_t) { stream_strips<T, decltype(height)::value>(t, strips); });
      continue;
    }
    for (int64_t strip = 0; strip < strips; ++strip, t.right += t.strip, t.sums += 16)
      block_strip<T>(t, rows, scratch.strip);
  }
}

inline void widen_values(const float* x, int64_t count, int32_t* out) {
  std::memcpy(out, x, static_cast<size_t>(count) * sizeof *x);
}
inline void widen_values(const Half* x, int64_t count, int32_t* out) {
  each_lanes(count, [&](int64_t j, auto lanes) { pstore(out + j, pbits(load_lanes(x + j, lanes))); });
}

template <class T>
void panel_product(const PanelProduct<T>& g) {
  PieceScratch scratch;
  const auto sums_of = [&](int64_t row) { return scratch.sums + row * kPieceColumns; };
  for (int64_t row = 0; row < g.rows; ++row) {
    each_lanes(g.columns, [&](int64_t j, auto lanes) {
      pstore(sums_of(row) + j, pbits(g.bias ? load_lanes(g.bias + j, lanes) : vset(0.0f)));
    });
  }
  for (const PanelSides<T>* t = g.terms; t != g.terms + g.count; ++t) {
    blocked_sums<T>(g.rows, t->units, g.columns, t->panel, scratch,
                    [&](int64_t row, int64_t first, int64_t units, int32_t* out) {
                      widen_values(t->x + row * t->x_stride + first * kDepth<T>, units * kDepth<T>, out);
                    });
  }
  for (int64_t row = 0; row < g.rows; ++row) {
    each_lanes(g.columns, [&](int64_t j, auto lanes) {
      store_lanes(g.y + row * g.y_stride + j, vbits(pload(sums_of(row) + j)), lanes);
    });
  }
}

/// Bytes, of which 128 is zero, as two pairs of 16-bit values a unit: bytes 0 and 2, 1 and 3.
inline void widen_bytes(const uint8_t* x, int64_t units, int32_t* out) {
  // Rows of bytes are whole lines, and so is the room between widened ones: the last step may go beyond.
  for (int64_t k = 0; k < units; k += 8) {
    const __m256i bytes = _mm256_xor_si256(load_bits(x + 4 * k), _mm256_set1_epi8(-128));
    const __m256i even = even_bytes(bytes), odd = odd_bytes(bytes);
    const __m256i first = _mm256_unpacklo_epi32(even, odd), second = _mm256_unpackhi_epi32(even, odd);
    store_bits(out + 2 * k, _mm256_permute2x128_si256(first, second, 0x20));
    store_bits(out + 2 * k + 8, _mm256_permute2x128_si256(first, second, 0x31));
  }
}

template <class T>
void int8_product(const Int8Product<T>& g) {
  PieceScratch scratch;
  for (int64_t row = 0; row < g.rows; ++row)
    std::fill_n(scratch.sums + row * kPieceColumns, round_up(g.columns, 16), 0);
  blocked_sums<int8_t>(g.rows, g.units, g.columns, g.panel, scratch,
                       [&](int64_t row, int64_t first, int64_t units, int32_t* out) {
                         widen_bytes(g.x + row * g.x_stride + 4 * first, units, out);
                       });
  for (int64_t j = 0; j < g.columns; j += 16) {
    const Int8Columns columns(g, j);
    for (int64_t row = 0; row < g.rows; ++row)
      int8_lanes(g, columns, row, pload(scratch.sums + row * kPieceColumns + j), g.panel + j * g.units, 16);
  }
}
