// Normalisation of rows: two passes forward over a row that stays in the nearest cache, two backward.

/// Calls step(column, lanes) over n columns.
template <class Step>
inline void each_lanes(int64_t n, const Step& step) {
  int64_t j = 0;
  for (; j + 16 <= n; j += 16) step(j, std::integral_constant<int64_t, 16>());
  if (j < n) step(j, n - j);
}
template <class P>
inline Vec load_lanes(const P* p, std::integral_constant<int64_t, 16>) {
  return vload(p);
}
template <class P>
inline Vec load_lanes(const P* p, int64_t n) {
  return vload_first(p, n);
}
template <class P>
inline void store_lanes(P* p, Vec v, std::integral_constant<int64_t, 16>) {
  vstore(p, v);
}
template <class P>
inline void store_lanes(P* p, Vec v, int64_t n) {
  vstore_first(p, v, n);
}
/// v in the lanes that exist, else zero.
inline Vec only_lanes(Vec v, std::integral_constant<int64_t, 16>) { return v; }
inline Vec only_lanes(Vec v, int64_t n) { return vbetween(v, 0, n, vset(0.0f)); }

/// x + residual of one row into `sum` (rounded to T, as the next reader sees it); → where the row is.
template <class T>
const T* joined_row(const NormRows<T>& t, int64_t row) {
  const T* x = t.x + row * t.n;
  if (t.residual == nullptr) return x;
  const T* residual = t.residual + row * t.n;
  T* sum = t.sum + row * t.n;
  each_lanes(t.n, [&](int64_t j, auto lanes) {
    store_lanes(sum + j, load_lanes(x + j, lanes) + load_lanes(residual + j, lanes), lanes);
  });
  return sum;
}

template <class T>
void norm_forward(const NormRows<T>& t) {
  const float each = 1.0f / static_cast<float>(t.n);
  for (int64_t row = 0; row < t.rows; ++row) {
    const T* x = joined_row(t, row);
    float mean = 0;
    if (t.mean) {
      Vec total = vset(0.0f);
      each_lanes(t.n, [&](int64_t j, auto lanes) { total = total + load_lanes(x + j, lanes); });
      t.mean[row] = mean = vsum(total) * each;
    }
    const Vec centre = vset(mean);
    Vec squares = vset(0.0f);
    each_lanes(t.n, [&](int64_t j, auto lanes) {
      const Vec d = only_lanes(load_lanes(x + j, lanes) - centre, lanes);
      squares = vfma(d, d, squares);
    });
    const float inverse = 1.0f / std::sqrt(vsum(squares) * each + t.eps);
    t.inverse_deviation[row] = inverse;
    const Vec factor = vset(inverse);
    T* y = t.y + row * t.n;
    each_lanes(t.n, [&](int64_t j, auto lanes) {
      Vec v = (load_lanes(x + j, lanes) - centre) * factor;
      if (t.weight) v = v * load_lanes(t.weight + j, lanes);
      if (t.bias) v = v + load_lanes(t.bias + j, lanes);
      store_lanes(y + j, v, lanes);
    });
  }
}

template <class T>
void norm_backward(const NormRows<T>& t) {
  const float each = 1.0f / static_cast<float>(t.n);
  for (int64_t row = 0; row < t.rows; ++row) {
    const T *x = t.x + row * t.n, *d_y = t.d_y + row * t.n;
    const Vec centre = vset(t.mean ? t.mean[row] : 0.0f), factor = vset(t.inverse_deviation[row]);
    Vec total = vset(0.0f), along = vset(0.0f);
    each_lanes(t.n, [&](int64_t j, auto lanes) {
      const Vec g = load_lanes(d_y + j, lanes),
                unit = only_lanes((load_lanes(x + j, lanes) - centre) * factor, lanes);
      if (t.d_weight) store_lanes(t.d_weight + j, vfma(g, unit, load_lanes(t.d_weight + j, lanes)), lanes);
      if (t.d_bias) store_lanes(t.d_bias + j, load_lanes(t.d_bias + j, lanes) + g, lanes);
      const Vec weighted = t.weight ? g * load_lanes(t.weight + j, lanes) : g;
      total = total + weighted;
      along = vfma(weighted, unit, along);
    });
    if (t.d_x == nullptr) continue;
    const Vec mean = vset(t.mean ? vsum(total) * each : 0.0f), slope = vset(vsum(along) * each);
    T* d_x = t.d_x + row * t.n;
    const T* d_sum = t.d_sum ? t.d_sum + row * t.n : nullptr;
    each_lanes(t.n, [&](int64_t j, auto lanes) {
      const Vec g = load_lanes(d_y + j, lanes), unit = (load_lanes(x + j, lanes) - centre) * factor;
      const Vec weighted = t.weight ? g * load_lanes(t.weight + j, lanes) : g;
      Vec d = (weighted - mean - unit * slope) * factor;
      if (d_sum) d = d + load_lanes(d_sum + j, lanes);
      store_lanes(d_x + j, d, lanes);
    });
  }
}
