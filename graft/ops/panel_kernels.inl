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

/// A panel's width in whole lanes: the last one's may be smaller.
inline int64_t panel_width(int64_t columns, int64_t first) {
  return std::min(kPanel, round_up(columns - first, 16));
}

/// Back to rows of the sixteen columns, a panel of summed values at a time, and along these into the other
/// panels.
template <class T>
void turn_panels(const PanelTurn& t) {
  constexpr int64_t kUnits = kPanel / kDepth<T>;
  const int64_t depth = (t.summed + kDepth<T> - 1) / kDepth<T>,
                turned = (t.columns + kDepth<T> - 1) / kDepth<T>;
  const int64_t panel = t.column / kPanel * kPanel, count = std::min<int64_t>(16, t.columns - t.column);
  const RightLayout from = right_layout(depth, panel_width(t.columns, panel));
  const int32_t* const units = t.units + panel * depth + (t.column - panel) / 16 * from.strip;
  alignas(64) int32_t rows[16 * kUnits];
  for (int64_t first = t.first; first < t.last; first += kPanel) {
    const int64_t unit = first / kDepth<T>, wide = std::min(kPanel, t.last - first);
    for (int64_t done = 0; done < std::min(kUnits, depth - unit); done += 16) {
      Pairs tile[16];
      for (int64_t i = 0; i < 16; ++i)
        tile[i] = unit + done + i < depth ? pload(units + (unit + done + i) * from.step) : pzero();
      ptranspose(tile);
      for (int64_t i = 0; i < 16; ++i) pstore(rows + i * kUnits + done, tile[i]);
    }
    const RightLayout to = right_layout(turned, panel_width(t.last, first));
    pack_along<T>(reinterpret_cast<const T*>(rows), kPanel, count, round_up(count, kDepth<T>), wide,
                  t.out + (first - t.first) * turned + t.column / kDepth<T> * to.step, to);
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
