// The small products of a low-rank update: x Aᵀ (many summed, few columns), u Bᵀ (few summed, many columns),
// and uᵀ x (summed over rows).

/// a [r, n] of T → right side of x · aᵀ.
template <class T>
void pack_down(const T* a, int64_t r, int64_t n, int32_t* out) {
  pack_across<T>(a, n, r, n, out, right_layout(n / kDepth<T>, r));
}
/// b [n, r] of T → right side of g · b.
template <class T>
void pack_up(const T* b, int64_t r, int64_t n, int32_t* out) {
  pack_along<T>(b, r, n, round_up(n, kDepth<T>), r, out);
}

/// u [rows, r rounded up to 16] = x [rows, n] · packed.
template <class T>
void low_rank_down(const T* x, int64_t rows, int64_t n, const int32_t* packed, int64_t r, float* u) {
  const int64_t width = round_up(r, 16);
  product<T>({x, n, packed, right_layout(n / kDepth<T>, r), u, width, n / kDepth<T>, false}, rows,
             width / 16);
}

template <class T, int kRows, int kVecs>
void up_tile(const LowRankUp<T>& t, int64_t row, int64_t column, int64_t last) {
  Vec sum[kRows][kVecs];
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sum[m][v] = vset(0.0f);
  }
  for (int64_t k = 0; k < t.r; ++k) {
    Vec right[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) right[v] = vload(t.right + k * t.right_stride + column + 16 * v);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
      const Vec left = vset(t.u[(row + m) * t.u_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[m][v] = vfma(left, right[v], sum[m][v]);
    }
  }
  const Vec scale = vset(t.scale);
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const int64_t at = (row + m) * t.n + column + 16 * v, lanes = v + 1 == kVecs ? last : 16;
      vstore_first(t.result + at, vfma(scale, sum[m][v], t.y ? vload_first(t.y + at, lanes) : vset(0.0f)),
                   lanes);
    }
  }
}
template <class T, int kRows>
void up_rows(const LowRankUp<T>& t, int64_t row) {
  constexpr int64_t kWide = 16 * kTileVecs;
  int64_t column = 0;
  for (; column + kWide <= t.n; column += kWide) up_tile<T, kRows, kTileVecs>(t, row, column, 16);
  for (; column < t.n; column += 16)
    up_tile<T, kRows, 1>(t, row, column, std::min<int64_t>(16, t.n - column));
}
/// result [rows, n] = y + scale · u [rows, r] · right [r, n].
template <class T>
void low_rank_up(const LowRankUp<T>& t) {
  int64_t row = 0;
  for (; row + 6 <= t.rows; row += 6) up_rows<T, 6>(t, row);
  for (; row < t.rows; ++row) up_rows<T, 1>(t, row);
}

/// Rows and vectors of a tile of sums: with the probes' sums and differences they take 24 registers, or 14.
constexpr int kMergeRows = kTileVecs == 1 ? 2 : 4, kMergeVecs = kTileVecs == 1 ? 1 : 2;

template <class T, int kRows, int kVecs>
void merge_tile(const LowRankMerge<T>& t, int64_t row, int64_t column, int64_t last,
                Vec (&seen)[kRows][kMergeProbes]) {
  Vec sum[kRows][kVecs];
#pragma GCC unroll 4
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) sum[m][v] = vset(0.0f);
  }
  for (int64_t k = 0; k < t.r; ++k) {
    Vec right[kVecs];
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) right[v] = vload(t.right + k * t.right_stride + column + 16 * v);
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const Vec left = vset(t.u[(row + m) * t.u_stride + k]);
#pragma GCC unroll 2
      for (int v = 0; v < kVecs; ++v) sum[m][v] = vfma(left, right[v], sum[m][v]);
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < kVecs; ++v) {
    const int64_t lanes = v + 1 == kVecs ? last : 16;
#pragma GCC unroll 4
    for (int m = 0; m < kRows; ++m) {
      const int64_t at = (row + m) * t.n + column + 16 * v;
      const Vec before = vload_first(t.weight + at, lanes), after = vfma(vset(t.scale), sum[m][v], before);
      vstore_first(t.result + at, after, lanes);
      const Vec change = after - before;
#pragma GCC unroll 2
      for (int p = 0; p < kMergeProbes; ++p)
        seen[m][p] = vfma(change, vload(t.probes + p * t.right_stride + column + 16 * v), seen[m][p]);
    }
  }
}
template <class T, int kRows>
void merge_rows(const LowRankMerge<T>& t, int64_t row) {
  constexpr int64_t kWide = 16 * kMergeVecs;
  Vec seen[kRows][kMergeProbes];
  for (auto& of_row : seen) {
    for (Vec& one : of_row) one = vset(0.0f);
  }
  int64_t column = 0;
  for (; column + kWide <= t.n; column += kWide) merge_tile<T, kRows, kMergeVecs>(t, row, column, 16, seen);
  for (; column < t.n; column += 16)
    merge_tile<T, kRows, 1>(t, row, column, std::min<int64_t>(16, t.n - column), seen);
  for (int m = 0; m < kRows; ++m) {
    for (int p = 0; p < kMergeProbes; ++p) t.seen[(row + m) * kMergeProbes + p] = vsum(seen[m][p]);
  }
}
template <class T>
void low_rank_merge(const LowRankMerge<T>& t) {
  int64_t row = 0;
  for (; row + kMergeRows <= t.rows; row += kMergeRows) merge_rows<T, kMergeRows>(t, row);
  for (; row < t.rows; ++row) merge_rows<T, 1>(t, row);
}

template <class T, int kRank, int kVecs>
void outer_tile(const LowRankOuter<T>& t, int64_t k, int64_t column, int64_t first, int64_t last,
                int64_t lanes) {
  Vec sum[kRank][kVecs];
#pragma GCC unroll 8
  for (int m = 0; m < kRank; ++m) {
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v) sum[m][v] = vload(t.result + (k + m) * t.result_stride + column + 16 * v);
  }
  for (int64_t row = first; row < last; ++row) {
    Vec right[kVecs];
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v)
      right[v] = vload_first(t.x + row * t.n + column + 16 * v, v + 1 == kVecs ? lanes : 16);
#pragma GCC unroll 8
    for (int m = 0; m < kRank; ++m) {
      const Vec left = vset(t.u[row * t.u_stride + k + m]);
#pragma GCC unroll 3
      for (int v = 0; v < kVecs; ++v) sum[m][v] = vfma(left, right[v], sum[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRank; ++m) {
#pragma GCC unroll 3
    for (int v = 0; v < kVecs; ++v) vstore(t.result + (k + m) * t.result_stride + column + 16 * v, sum[m][v]);
  }
}
/// Ranks and vectors of a tile of sums.
constexpr int kOuterRank = kTileVecs == 1 ? 4 : 8, kOuterVecs = kTileVecs == 1 ? 1 : 3;

template <class T, int kRank>
void outer_columns(const LowRankOuter<T>& t, int64_t k, int64_t first, int64_t last) {
  constexpr int64_t kWide = 16 * kOuterVecs;
  int64_t column = t.first_column;
  for (; column + kWide <= t.last_column; column += kWide)
    outer_tile<T, kRank, kOuterVecs>(t, k, column, first, last, 16);
  for (; column < t.last_column; column += 16) {
    outer_tile<T, kRank, 1>(t, k, column, first, last, std::min<int64_t>(16, t.last_column - column));
  }
}
/// The same by products: u turned and rounded to x's type, x's rows in pairs side by side.
inline void outer_by_products(const LowRankOuter<Half>& t) {
  constexpr int64_t kRows = 256, kRanks = 64, kColumns = 64;  // 32 KB of u, as much of pairs
  alignas(64) Half left[kRanks * kRows];
  alignas(64) int32_t right[kRows / 2 * kColumns];
  for (int64_t first = 0; first < t.rows; first += kRows) {
    const int64_t rows = std::min(kRows, t.rows - first), padded = round_up(rows, 32);
    for (int64_t k = 0; k < t.r; k += kRanks) {
      const int64_t ranks = std::min(kRanks, t.r - k);
      turn<Half>(t.u + first * t.u_stride + k, t.u_stride, rows, round_up(ranks, 16), left, padded);
      for (int64_t column = t.first_column; column < t.last_column; column += kColumns) {
        const int64_t columns = std::min(kColumns, t.last_column - column);
        pack_along<Half>(t.x + first * t.n + column, t.n, rows, padded, columns, right);
        product<Half>({left, padded, right, right_layout(padded / 2, columns),
                       t.result + k * t.result_stride + column, t.result_stride, padded / 2, true},
                      ranks, round_up(columns, 16) / 16);
      }
    }
  }
}

/// result [r, n rounded up to 16] += uᵀ x over all rows, for columns [first_column, last_column).
template <class T>
void low_rank_outer(const LowRankOuter<T>& t) {
  // A vector of halves has no product of its own where it is widened first.
  if constexpr (std::is_same_v<T, Half> && kTileVecs > 1) return outer_by_products(t);
  // Rows in chunks that stay near while each few ranks pass over them.
  for (int64_t first = 0; first < t.rows; first += 64) {
    const int64_t last = std::min(t.rows, first + 64);
    int64_t k = 0;
    for (; k + kOuterRank <= t.r; k += kOuterRank) outer_columns<T, kOuterRank>(t, k, first, last);
    for (; k < t.r; ++k) outer_columns<T, 1>(t, k, first, last);
  }
}
