// Rows to 8 bits and back: each row has one scale; what is far above the row's own size is kept apart and
// counts exactly (Dettmers et al. 2022 keep whole columns so).

/// Sixteen values of a row, scaled.
template <class T>
inline Vec scaled_lanes(const RowsToInt8<T>& t, const T* x, int64_t j) {
  const int64_t lanes = std::min<int64_t>(16, t.n - j);
  const Vec v = vload_first(x + j, lanes);
  return t.factor ? v * vload_first(t.factor + j, lanes) : v;
}

/// Puts a value among the largest seen; → the one that has no room, 0 while there is some.
inline float keep_outlier(Outliers& kept, int64_t column, float value) {
  int32_t at = kept.count;
  float left = 0;
  if (at < Outliers::kMost) {
    ++kept.count;
  } else {
    at = 0;
    for (int32_t i = 1; i < Outliers::kMost; ++i) {
      if (std::abs(kept.value[i]) < std::abs(kept.value[at])) at = i;
    }
    left = std::min(std::abs(kept.value[at]), std::abs(value));
    if (left == std::abs(value)) return left;
  }
  kept.column[at] = static_cast<int32_t>(column);
  kept.value[at] = value;
  return left;
}

/// Takes a row's values above the threshold apart; → the largest |value| that stays.
template <class T>
float part_outliers(const RowsToInt8<T>& t, const T* x, float threshold, Outliers& kept) {
  Vec most = vset(0.0f);
  float left = 0;
  for (int64_t j = 0; j < t.n; j += 16) {
    const Vec v = scaled_lanes(t, x, j), size = vabs(v);
    most = vmax(most, vwithin(size, vset(threshold)));
    uint32_t above = vabove(size, vset(threshold));
    if (above == 0) continue;
    float values[16];
    vstore(values, v);
    for (; above != 0; above &= above - 1) {
      const int lane = __builtin_ctz(above);
      left = std::max(left, keep_outlier(kept, j + lane, values[lane]));
    }
  }
  return std::max(left, vhighest(most));
}

template <class T>
void row_to_int8(const RowsToInt8<T>& t, int64_t row) {
  const T* const x = t.x + row * t.n;
  Vec most = vset(0.0f), total = vset(0.0f);
  for (int64_t j = 0; j < t.n; j += 16) {
    const Vec size = vabs(scaled_lanes(t, x, j));
    most = vmax(most, size);
    total = total + size;
  }
  float largest = vhighest(most);
  const float sum = vsum(total);
  const float threshold = t.outlier * sum / static_cast<float>(t.n);
  Outliers& outliers = t.outliers[row];
  outliers.count = 0;
  if (largest > threshold) largest = part_outliers(t, x, threshold, outliers);
  const bool sound = sum < std::numeric_limits<float>::infinity();
  t.scale[row] = sound ? largest / 127.0f : std::numeric_limits<float>::quiet_NaN();
  if (!sound) outliers.count = 0;
  const Vec inverse = vset(sound && largest > 0 ? 127.0f / largest : 0.0f);
  uint8_t* const q = t.q + row * t.q_stride;
  for (int64_t j = 0; j < t.n; j += 16) vstore_bytes(q + j, scaled_lanes(t, x, j) * inverse);
  for (int32_t i = 0; i < outliers.count; ++i) q[outliers.column[i]] = 128;
}

template <class T>
void rows_to_int8(const RowsToInt8<T>& t) {
  for (int64_t row = 0; row < t.rows; ++row) row_to_int8(t, row);
}

/// Outliers' share of sixteen columns, whose units start at `panel` and are `stride` apart: each value by its
/// own row of the weight.
inline Vec outlier_sum(const Outliers& outliers, const int32_t* panel, int64_t stride) {
  Vec sum = vset(0.0f);
  for (int32_t i = 0; i < outliers.count; ++i) {
    const int64_t column = outliers.column[i];
    const Pairs bytes = pbyte(pload(panel + column / 4 * stride), static_cast<int>(column % 4));
    sum = vfma(vset(outliers.value[i]), vwhole(bytes), sum);
  }
  return sum;
}

/// What sixteen columns have for all rows.
struct Int8Columns {
  int64_t first, lanes;
  Vec scale, bias;

  template <class T>
  Int8Columns(const Int8Product<T>& g, int64_t column)
      : first(column),
        lanes(std::min<int64_t>(16, g.columns - column)),
        scale(g.w_scale ? vload(g.w_scale + column) : vset(1.0f)),
        bias(g.bias ? vload_first(g.bias + column, lanes) : vset(0.0f)) {}
};

/// The whole sums of a row's sixteen columns to their output; their units as above.
template <class T>
void int8_lanes(const Int8Product<T>& g, const Int8Columns& columns, int64_t row, Pairs whole,
                const int32_t* panel, int64_t stride) {
  Vec sum = vwhole(whole) * vset(g.x_scale[row]);
  if (g.outliers[row].count > 0) sum = sum + outlier_sum(g.outliers[row], panel, stride);
  const Vec value = vfma(sum, columns.scale, columns.bias);
  T* const y = g.y + row * g.y_stride + columns.first;
  columns.lanes == 16 ? vstore(y, value) : vstore_first(y, value, columns.lanes);
}
