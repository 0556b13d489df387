// Panels and tiles of products: the sums of a tile stay in registers (Goto and van de Geijn 2008), so that
// one row streams a weight once, and many rows run at the processor's own rate.

/// The most rows of a piece; tiles want more work for what they stream.
constexpr int64_t kPieceRows = kTiles ? 256 : 96;

/// columns [count, summed] of T, at most a panel of them → their units, in strips as wide as a tile.
template <class T>
void pack_panel(const T* columns, int64_t count, int64_t summed, int32_t* out) {
  constexpr int64_t kWide = 16 * kTileVecs;
  for (int64_t first = 0; first < count; first += kWide) {
    const int64_t wide = std::min(kWide, count - first);
    pack_across<T>(columns + first * summed, summed, wide, summed, out + first * (summed / kDepth<T>),
                   right_layout(summed / kDepth<T>, wide));
  }
}

/// Calls tile(kRows, first row) for tiles of nearly equal height: a last tile of one row would wait for its
/// loads.
template <int kRows, class Tile>
void tile_of_height(int64_t height, int64_t row, const Tile& tile) {
  if (height == kRows) return tile(std::integral_constant<int, kRows>(), row);
  if constexpr (kRows > 1) tile_of_height<kRows - 1>(height, row, tile);
}
template <int kMost, class Tile>
void each_tile(int64_t rows, const Tile& tile) {
  int64_t row = 0;
  for (int64_t tiles = (rows + kMost - 1) / kMost; tiles > 0; --tiles) {
    const int64_t height = (rows - row + tiles - 1) / tiles;
    tile_of_height<kMost>(height, row, tile);
    row += height;
  }
}
