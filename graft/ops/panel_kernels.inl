// Products on panels: the sums of a tile stay in registers from the first unit to the last (Goto and van de Geijn
// 2008), so that one row streams a weight once, and many rows run at the processor's own rate.

/// Calls tile(kRows, first row) for tiles of nearly equal height: a last tile of one row would wait for its loads.
template <int kRows, class Tile>
void tile_of_height(int64_t height, int64_t row, const Tile& tile) {
  if (height == kRows) return tile(std::integral_constant<int, kRows>(), row);
  if constexpr (kRows > 1) tile_of_height<kRows - 1>(height, row, tile);
}
template <class Tile>
void each_tile(int64_t rows, const Tile& tile) {
  int64_t row = 0;
  for (int64_t tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; --tiles) {
    const int64_t height = (rows - row + tiles - 1) / tiles;
    tile_of_height<kTileRows>(height, row, tile);
    row += height;
  }
}

/// The lanes of a panel's vector v that are columns.
template <int kVecs>
int64_t lanes_of(int64_t columns, int v) {
  return v + 1 < kVecs ? 16 : columns - 16 * (kVecs - 1);
}

template <class T, int kRows, int kVecs>
void panel_tile(const PanelProduct<T>& g, int64_t row) {
  const T* const x = g.x + row * g.x_stride;
  Vec sum[kRows][kVecs];
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const Vec start = g.bias ? vload_first(g.bias + 16 * v, lanes_of<kVecs>(g.columns, v)) : vset(0.0f);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) sum[m][v] = start;
  }
  for (int64_t k = 0; k < g.units; ++k) {
    Pairs right[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) right[v] = pload(g.panel + (k * kVecs + v) * 16);
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
      const Pairs left = pset(x + m * g.x_stride + k * kDepth<T>);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[m][v] = vdot(sum[m][v], left, right[v], T{});
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
  each_tile(g.rows, [&](auto height, int64_t row) { panel_tile<T, decltype(height)::value, kVecs>(g, row); });
}

template <class T>
void panel_product(const PanelProduct<T>& g) {
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
