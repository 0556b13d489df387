// Products on panels where the registers hold a tile of whole panels: its sums stay there from the first unit
// to the last.

constexpr int64_t kPieceColumns = kPanel;

/// So few rows wait for their weights: vectors, which ask for them ahead, read them at the memory's own rate,
/// and tiles do not. Two panels side by side are two places that the processor reads ahead of itself: with
/// two threads a tenth faster than one.
constexpr int64_t kStreamRows = 2, kStreamPanels = 2;
/// Asks for the vectors 4 KiB ahead of `right` in the second cache.
template <int kRows, int kVecs>
void ask_ahead(const int32_t* right) {
  if constexpr (kRows <= kStreamRows) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) __builtin_prefetch(right + 1024 + 16 * v, 0, 2);
  }
}

/// The lanes of a panel's vector v that are columns.
template <int kVecs>
int64_t lanes_of(int64_t columns, int v) {
  return v + 1 < kVecs ? 16 : columns - 16 * (kVecs - 1);
}

/// kPanels of them side by side, whole ones where there are several.
template <class T, int kRows, int kVecs, int kPanels = 1>
void panel_tile(const PanelProduct<T>& g, int64_t row) {
  Vec sum[kPanels][kRows][kVecs];
  const auto lanes = [&](int v) { return kPanels > 1 ? 16 : lanes_of<kVecs>(g.columns, v); };
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Vec start = g.bias ? vload_first(g.bias + kPanel * p + 16 * v, lanes(v)) : vset(0.0f);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) sum[p][m][v] = start;
    }
  }
  for (const PanelSides<T>* t = g.terms; t != g.terms + g.count; ++t) {
    const T* const x = t->x + row * t->x_stride;
    const int64_t units = t->units, stride = t->x_stride;
    for (int64_t k = 0; k < units; ++k) {
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) {
        const int32_t* const at = t->panel + (p * units + k) * kVecs * 16;
        ask_ahead<kRows, kVecs>(at);
        Pairs right[kVecs];
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) right[v] = pload(at + 16 * v);
#pragma GCC unroll 6
        for (int m = 0; m < kRows; ++m) {
          const Pairs left = pset(x + m * stride + k * kDepth<T>);
#pragma GCC unroll 4
          for (int v = 0; v < kVecs; ++v) sum[p][m][v] = vdot(sum[p][m][v], left, right[v], T{});
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v)
        vstore_first(g.y + (row + m) * g.y_stride + kPanel * p + 16 * v, sum[p][m][v], lanes(v));
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
  if (g.columns == kStreamPanels * kPanel) {
    return each_tile<kStreamRows>(g.rows, [&](auto height, int64_t row) {
      panel_tile<T, decltype(height)::value, 4, kStreamPanels>(g, row);
    });
  }
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

/// As panel_tile.
template <class T, int kRows, int kVecs, int kPanels = 1>
void int8_tile(const Int8Product<T>& g, int64_t row) {
  const uint8_t* const x = g.x + row * g.x_stride;
  Pairs sum[kPanels][kRows][kVecs];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[p][m][v] = pzero();
    }
  }
  for (int64_t k = 0; k < g.units; ++k) {
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      const int32_t* const at = g.panel + (p * g.units + k) * kVecs * 16;
      ask_ahead<kRows, kVecs>(at);
      Pairs right[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) right[v] = pload(at + 16 * v);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        const Pairs left = pset(x + m * g.x_stride + k * 4);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) sum[p][m][v] = pdot_bytes(sum[p][m][v], left, right[v]);
      }
    }
  }
  // Through memory: beside the outliers' loop the sums would leave their registers for good.
  alignas(64) int32_t sums[kPanels][kRows][kVecs * 16];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) pstore(sums[p][m] + 16 * v, sum[p][m][v]);
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int v = 0; v < kVecs; ++v) {
      const Int8Columns columns(g, kPanel * p + 16 * v);
      const Pairs offset = pload(g.offset + kPanel * p + 16 * v);
      const int32_t* const units = g.panel + p * g.units * kVecs * 16 + 16 * v;
      for (int m = 0; m < kRows; ++m)
        int8_lanes(g, columns, row + m, pminus(pload(sums[p][m] + 16 * v), offset), units, 16 * kVecs);
    }
  }
}

template <class T, int kVecs>
void int8_rows(const Int8Product<T>& g) {
  each_tile<kTileRows>(
      g.rows, [&](auto height, int64_t row) { int8_tile<T, decltype(height)::value, kVecs>(g, row); });
}

template <class T>
void int8_product(const Int8Product<T>& g) {
  if (g.columns == kStreamPanels * kPanel) {
    return each_tile<kStreamRows>(g.rows, [&](auto height, int64_t row) {
      int8_tile<T, decltype(height)::value, 4, kStreamPanels>(g, row);
    });
  }
  if constexpr (kTiles) {
    if (g.rows > kStreamRows && tiles_int8_product(g)) return;
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
