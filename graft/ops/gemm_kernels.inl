// Small matrix products on packed right sides: 32-bit units hold two bfloat16 (or one float) along the summed
// dimension.

/// How many values of T one 32-bit unit holds.
template <class T>
inline constexpr int64_t kDepth = 4 / static_cast<int64_t>(sizeof(T));

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Where the units of a right side lie: `step` from one to the next, `strip` from sixteen columns to the
/// next.
struct RightLayout {
  int64_t step, strip;
};
/// Units and columns of a whole right side; where a tile is one vector wide, its columns lie together.
inline RightLayout right_layout(int64_t units, int64_t columns) {
  if constexpr (kTileVecs == 1) return {16, 16 * units};
  return {round_up(columns, 16), 16};
}

/// Where a product's sides lie. a: rows of T; b: units; c: rows of float.
template <class T>
struct Product {
  const T* a;
  int64_t lda;
  const int32_t* b;
  RightLayout right;
  float* c;
  int64_t ldc;
  int64_t steps;    // summed units
  bool accumulate;  // add to c
};

template <class T, int kRows, int kVecs>
void product_tile(const Product<T>& g) {
  Vec sum[kRows][kVecs];
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sum[m][v] = g.accumulate ? vload(g.c + m * g.ldc + 16 * v) : vset(0.0f);
  }
  for (int64_t k = 0; k < g.steps; ++k) {
    Pairs right[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) right[v] = pload(g.b + k * g.right.step + 16 * v);
#pragma GCC unroll 12
    for (int m = 0; m < kRows; ++m) {
      const Pairs left = pset(g.a + m * g.lda + k * kDepth<T>);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[m][v] = vdot(sum[m][v], left, right[v], T{});
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) vstore(g.c + m * g.ldc + 16 * v, sum[m][v]);
  }
}

template <class T, int kRows, int kVecs>
void product_rows(const Product<T>& g, int64_t rows) {
  if (rows == kRows) return product_tile<T, kRows, kVecs>(g);
  if constexpr (kRows > 1) product_rows<T, kRows - 1, kVecs>(g, rows);
}

/// All rows of one group of columns, in tiles of nearly equal height: a last tile of one row would wait for
/// its loads.
template <class T, int kMostRows, int kVecs>
void product_columns(Product<T> g, int64_t rows) {
  for (int64_t tiles = (rows + kMostRows - 1) / kMostRows; tiles > 0; --tiles) {
    const int64_t height = (rows + tiles - 1) / tiles;
    product_rows<T, kMostRows, kVecs>(g, height);
    g.a += height * g.lda;
    g.c += height * g.ldc;
    rows -= height;
  }
}

/// c [rows, 16 vecs] = a · b (+ c).
template <class T>
void product(Product<T> g, int64_t rows, int64_t vecs) {
  if constexpr (kTiles && std::is_same_v<T, Half>) {
    if (tiles_product(g, rows, vecs)) return;
  }
  if constexpr (kTileVecs == 1) {
    // Pairs are taken apart on the way, which needs registers.
    constexpr int kMost = kDepth<T> == 1 ? kTileRows : kTileRows - 2;
    for (; vecs > 0; --vecs, g.b += g.right.strip, g.c += 16) product_columns<T, kMost, 1>(g, rows);
    return;
  }
  for (; vecs >= 4; vecs -= 4, g.b += 64, g.c += 64) product_columns<T, 6, 4>(g, rows);
  if (vecs == 3) product_columns<T, 8, 3>(g, rows);
  if (vecs == 2) product_columns<T, 10, 2>(g, rows);
  if (vecs == 1) product_columns<T, 12, 1>(g, rows);
}

/// Units of P that a row of T holds at x: the first n.
template <class P>
inline Pairs row_units(const P* x, int64_t n, P) {
  return pload_first(x, n);
}
inline Pairs row_units(const Half* x, int64_t n, float) { return pbits(vload_first(x, n)); }

/// x [n, d] → [⌈d/depth⌉][n] units of P, x's rows side by side: the right side of a · xᵀ. Columns from n to n
/// rounded up to 16 are zero. d is a multiple of the depth.
template <class P, class T>
void pack_across(const T* x, int64_t row_stride, int64_t n, int64_t d, int32_t* out, RightLayout layout) {
  const int64_t units = d / kDepth<P>;
  for (int64_t first = 0; first < n; first += 16) {
    for (int64_t unit = 0; unit < units; unit += 16) {
      Pairs tile[16];
      const int64_t wide = std::min<int64_t>(16, units - unit);
      for (int64_t i = 0; i < 16; ++i) {
        tile[i] =
            first + i < n ? row_units(x + (first + i) * row_stride + unit * kDepth<P>, wide, P{}) : pzero();
      }
      ptranspose(tile);
      for (int64_t i = 0; i < wide; ++i)
        pstore(out + (unit + i) * layout.step + first / 16 * layout.strip, tile[i]);
    }
  }
}

inline Pairs unit_row(const Half* x, int64_t row_stride, int64_t row, int64_t rows, int64_t n, Half) {
  return pjoin_rows(x + row * row_stride, row + 1 < rows ? x + (row + 1) * row_stride : nullptr, n);
}
template <class T>
inline Pairs unit_row(const T* x, int64_t row_stride, int64_t row, int64_t, int64_t n, float) {
  return row_units(x + row * row_stride, n, float{});
}

/// x [n, d] → [padded/depth][⌈d/16⌉ · 16] units of P: the right side of a · x, or some of its rows. Those
/// from n to `padded` are zero.
template <class P, class T>
void pack_along(const T* x, int64_t row_stride, int64_t n, int64_t padded, int64_t d, int32_t* out,
                RightLayout layout) {
  for (int64_t row = 0; row < padded; row += kDepth<P>, out += layout.step) {
    for (int64_t column = 0; column < d; column += 16) {
      const int64_t wide = std::min<int64_t>(16, d - column);
      pstore(out + column / 16 * layout.strip,
             row < n ? unit_row(x + column, row_stride, row, n, wide, P{}) : pzero());
    }
  }
}

template <class P, class T>
void pack_along(const T* x, int64_t row_stride, int64_t n, int64_t padded, int64_t d, int32_t* out) {
  pack_along<P>(x, row_stride, n, padded, d, out, right_layout(padded / kDepth<P>, d));
}

inline Pairs joined_rows(const float* x, int64_t row_stride, int64_t row, int64_t rows, Half) {
  return pjoin(row < rows ? vload(x + row * row_stride) : vset(0.0f),
               row + 1 < rows ? vload(x + (row + 1) * row_stride) : vset(0.0f));
}
inline Pairs joined_rows(const float* x, int64_t row_stride, int64_t row, int64_t rows, float) {
  return row < rows ? pbits(vload(x + row * row_stride)) : pzero();
}

/// x [n, d] of floats, d a multiple of 16 → out [d, padded] of T: xᵀ as a left side. Columns from n to
/// `padded`, a multiple of 16 depths, are zero.
template <class T>
void turn(const float* x, int64_t row_stride, int64_t n, int64_t d, T* out, int64_t padded) {
  for (int64_t column = 0; column < d; column += 16) {
    for (int64_t first = 0; first < padded; first += 16 * kDepth<T>) {
      Pairs tile[16];
      for (int64_t i = 0; i < 16; ++i)
        tile[i] = joined_rows(x + column, row_stride, first + i * kDepth<T>, n, T{});
      ptranspose(tile);
      for (int64_t i = 0; i < 16; ++i) pstore(out + (column + i) * padded + first, tile[i]);
    }
  }
}
