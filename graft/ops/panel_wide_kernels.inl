// Products on panels where the registers hold a tile of whole panels: its sums stay there from the first unit
// to the last.

constexpr int64_t kPieceColumns = kPanel;

/// So few rows wait for their weights: vectors, which ask for them ahead, read them at the memory's own rate,
/// with two threads a sixth faster than tiles do (of bfloat16; of bytes they are no faster).
constexpr int64_t kStreamRows = 2;
/// Asks for the next units' vectors in the second cache, 16 KiB ahead of `right`.
template <int kRows, int kVecs>
void ask_ahead(const int32_t* right) {
  if constexpr (kRows <= kStreamRows) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) __builtin_prefetch(right + 4096 + 16 * v, 0, 2);
  }
}

/// The lanes of a panel's vector v that are columns.
template <int kVecs>
int64_t lanes_of(int64_t columns, int v) {
  return v + 1 < kVecs ? 16 : columns - 16 * (kVecs - 1);
}

template <class T, int kRows, int kVecs>
void panel_tile(const PanelProduct<T>& g, int64_t row) {
  Vec sum[kRows][kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const Vec start = g.bias ? vload_first(g.bias + 16 * v, lanes_of<kVecs>(g.columns, v)) : vset(0.0f);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) sum[m][v] = start;
  }
  for (const PanelSides<T>* t = g.terms; t != g.terms + g.count; ++t) {
    const T* const x = t->x + row * t->x_stride;
    const int64_t units = t->units, stride = t->x_stride;
    const int32_t* const panel = t->panel;
    for (int64_t k = 0; k < units; ++k) {
      ask_ahead<kRows, kVecs>(panel + k * kVecs * 16);
      Pairs right[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) right[v] = pload(panel + (k * kVecs + v) * 16);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const Pairs left = pset(x + m * stride + k * kDepth<T>);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) sum[m][v] = vdot(sum[m][v], left, right[v], T{});
      }
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      vstore_first(g.y + (row + m) * g.y_stride + 16 * v, sum[m][v], lanes_of<kVecs>(g.columns, v));
    }
  }
}

template <class T, int kVecs>
void panel_rows(const PanelProduct<T>& g) {
  each_tile<kTileRows>(
      g.rows, [&](auto height, int64_t row) { panel_tile<T, decltype(height)::value, kVecs>(g, row); });
}

template <class T>
void panel_product(const PanelProduct<T>& g) {
  if constexpr (kTiles && std::is_same_v<T, Half>) {
    if (g.rows > kStreamRows && tiles_panel_product(g)) return;
  }
  switch ((g.columns + 15) / 16) {
    case 4:
      return panel_rows<T, 4>(g);
    case 3:
      return panel_rows<T, 3>(g);
    case 2:
      return panel_rows<T, 2>(g);
    default:
      return panel_rows<T, 1>(g);
  }
}

template <class T, int kRows, int kVecs>
void int8_tile(const Int8Product<T>& g, int64_t row) {
  const uint8_t* const x = g.x + row * g.x_stride;
  Pairs sum[kRows][kVecs];
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sum[m][v] = pzero();
  }
  for (int64_t k = 0; k < g.units; ++k) {
    Pairs right[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) right[v] = pload(g.panel + (k * kVecs + v) * 16);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
      const Pairs left = pset(x + m * g.x_stride + k * 4);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[m][v] = pdot_bytes(sum[m][v], left, right[v]);
    }
  }
  // Through memory: beside the outliers' loop the sums would leave their registers for good.
  alignas(64) int32_t sums[kRows][kVecs * 16];
#pragma GCC unroll 6
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) pstore(sums[m] + 16 * v, sum[m][v]);
  }
  for (int v = 0; v < kVecs; ++v) {
    const Int8Columns columns(g, 16 * v);
    const Pairs offset = pload(g.offset + 16 * v);
    for (int m = 0; m < kRows; ++m)
      int8_lanes(g, columns, row + m, pminus(pload(sums[m] + 16 * v), offset), g.panel + 16 * v, 16 * kVecs);
  }
}

template <class T, int kVecs>
void int8_rows(const Int8Product<T>& g) {
  each_tile<kTileRows>(
      g.rows, [&](auto height, int64_t row) { int8_tile<T, decltype(height)::value, kVecs>(g, row); });
}

template <class T>
void int8_product(const Int8Product<T>& g) {
  if constexpr (kTiles) {
    if (tiles_int8_product(g)) return;
  }
  switch ((g.columns + 15) / 16) {
    case 4:
      return int8_rows<T, 4>(g);
    case 3:
      return int8_rows<T, 3>(g);
    case 2:
      return int8_rows<T, 2>(g);
    default:
      return int8_rows<T, 1>(g);
  }
}
