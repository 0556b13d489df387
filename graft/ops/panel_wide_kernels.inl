// Products on panels where the registers hold a tile of whole panels: its sums stay there from the first unit
// to the last.

constexpr int64_t kPieceColumns = kPanel;

/// So few rows wait for their weights: vectors, which ask for them ahead, read them at the memory's own rate,
/// and tiles do not. Panels side by side are places that the processor reads ahead of itself: with two
/// threads four are an eighth faster than one.
constexpr int64_t kStreamRows = 2, kStreamPanels = 4;
/// More rows than this multiply for longer than a panel takes to come by itself.
constexpr int64_t kAskingRows = 16;
/// Asks for a vector each of the units ahead of `right` in the second cache. Inlined by force: the compiler
/// takes a call that only asks for one that does nothing.
template <int kVecs, int kPanels>
[[gnu::always_inline]] inline void ask_ahead(const int32_t* right) {
  constexpr int kUnits = kPanels > 1 ? 4 : 16;
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) __builtin_prefetch(right + (kUnits * kVecs + v) * 16, 0, 2);
}

/// The lanes of a panel's vector v that are columns.
template <int kVecs>
int64_t lanes_of(int64_t columns, int v) {
  return v + 1 < kVecs ? 16 : columns - 16 * (kVecs - 1);
}

/// kPanels of them from `panel` on side by side, whole ones where there are several; `kAsks`: they come from
/// memory.
template <class T, int kRows, int kVecs, bool kAsks, int kPanels = 1>
void panel_tile(const PanelProduct<T>& g, int64_t row, int64_t panel = 0) {
  Vec sum[kPanels][kRows][kVecs];
  const auto lanes = [&](int v) { return kPanels > 1 ? 16 : lanes_of<kVecs>(g.columns, v); };
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const Vec start = g.bias ? vload_first(g.bias + kPanel * (panel + p) + 16 * v, lanes(v)) : vset(0.0f);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) sum[p][m][v] = start;
    }
  }
  for (const PanelSides<T>* t = g.terms; t != g.terms + g.count; ++t) {
    const T* const x = t->x + row * t->x_stride;
    const int64_t units = t->units, stride = t->x_stride;
    for (int64_t k = 0; k < units; ++k) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        const int32_t* const at = t->panel + ((panel + p) * units + k) * kVecs * 16;
        if constexpr (kAsks) ask_ahead<kVecs, kPanels>(at);
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
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v)
        vstore_first(g.y + (row + m) * g.y_stride + kPanel * (panel + p) + 16 * v, sum[p][m][v], lanes(v));
    }
  }
}

/// Calls tile(kRows, kAsks, first row) for tiles of rows. The first one streams the panel from memory.
template <class Tile>
void each_stream_tile(int64_t rows, const Tile& tile) {
  each_tile<kTileRows>(rows, [&](auto height, int64_t row) {
    if (row == 0 && rows <= kAskingRows) return tile(height, std::true_type(), row);
    tile(height, std::false_type(), row);
  });
}

/// Calls stream(kRows, kPanels, first panel) for stretches of whole panels, of one or two rows: of two, the
/// registers hold the sums of two panels.
template <class Stream>
void each_stream(int64_t rows, int64_t columns, const Stream& stream) {
  const auto widest = [&](auto height, auto most) {
    constexpr int64_t kMost = decltype(most)::value;
    const int64_t panels = columns / kPanel;
    int64_t panel = 0;
    for (; panel + kMost <= panels; panel += kMost) stream(height, most, panel);
    if constexpr (kMost > 3) {
      if (panel + 3 == panels) return stream(height, std::integral_constant<int, 3>(), panel);
    }
    if constexpr (kMost > 2) {
      if (panel + 2 == panels) return stream(height, std::integral_constant<int, 2>(), panel);
    }
    if (panel < panels) stream(height, std::integral_constant<int, 1>(), panel);
  };
  if (rows == 1)
    return widest(std::integral_constant<int, 1>(), std::integral_constant<int, kStreamPanels>());
  widest(std::integral_constant<int, 2>(), std::integral_constant<int, 2>());
}

template <class T, int kVecs>
void panel_rows(const PanelProduct<T>& g) {
  each_stream_tile(g.rows, [&](auto height, auto asks, int64_t row) {
    panel_tile<T, decltype(height)::value, kVecs, decltype(asks)::value>(g, row);
  });
}

template <class T>
void panel_product(const PanelProduct<T>& g) {
  if (g.columns > kPanel) {
    return each_stream(g.rows, g.columns, [&](auto height, auto panels, int64_t panel) {
      panel_tile<T, decltype(height)::value, 4, true, decltype(panels)::value>(g, 0, panel);
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
template <class T, int kRows, int kVecs, bool kAsks, int kPanels = 1>
void int8_tile(const Int8Product<T>& g, int64_t row, int64_t panel = 0) {
  const uint8_t* const x = g.x + row * g.x_stride;
  Pairs sum[kPanels][kRows][kVecs];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sum[p][m][v] = pzero();
    }
  }
  for (int64_t k = 0; k < g.units; ++k) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const int32_t* const at = g.panel + ((panel + p) * g.units + k) * kVecs * 16;
      if constexpr (kAsks) ask_ahead<kVecs, kPanels>(at);
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
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) pstore(sums[p][m] + 16 * v, sum[p][m][v]);
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int v = 0; v < kVecs; ++v) {
      const Int8Columns columns(g, kPanel * (panel + p) + 16 * v);
      const Pairs offset = pload(g.offset + columns.first);
      const int32_t* const units = g.panel + (panel + p) * g.units * kVecs * 16 + 16 * v;
      for (int m = 0; m < kRows; ++m)
        int8_lanes(g, columns, row + m, pminus(pload(sums[p][m] + 16 * v), offset), units, 16 * kVecs);
    }
  }
}

template <class T, int kVecs>
void int8_rows(const Int8Product<T>& g) {
  each_stream_tile(g.rows, [&](auto height, auto asks, int64_t row) {
    int8_tile<T, decltype(height)::value, kVecs, decltype(asks)::value>(g, row);
  });
}

template <class T>
void int8_product(const Int8Product<T>& g) {
  if (g.columns > kPanel) {
    return each_stream(g.rows, g.columns, [&](auto height, auto panels, int64_t panel) {
      int8_tile<T, decltype(height)::value, 4, true, decltype(panels)::value>(g, 0, panel);
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
