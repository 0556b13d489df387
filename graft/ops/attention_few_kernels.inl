// The last query of a sequence, for generation: keys and values are read once, where they lie, and serve all
// heads of the group.

/// a, whole vectors with zeros at its end, by kRows rows of b: Σ over a head's dimensions.
template <int kRows, class T>
inline void dot_rows(const float* a, const T* b, int64_t b_row, int64_t dim, float* out) {
  Vec sum[kRows];
  for (int i = 0; i < kRows; ++i) sum[i] = vset(0.0f);
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) {
    for (int i = 0; i < kRows; ++i) sum[i] = vfma(vload(a + d), vload(b + i * b_row + d), sum[i]);
  }
  if (d < dim) {
    for (int i = 0; i < kRows; ++i)
      sum[i] = vfma(vload(a + d), vload_first(b + i * b_row + d, dim - d), sum[i]);
  }
  if constexpr (kRows == 4) {
    vsum_four(sum, out);
  } else {
    for (int i = 0; i < kRows; ++i) out[i] = vsum(sum[i]);
  }
}
/// A head's rows lie apart: the processor does not see by itself which lines come. The first head that reads
/// them asks.
template <class T>
[[gnu::always_inline]] inline void ask_for_row(const T* row, int64_t dim) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t d = 0; d < dim; d += kLine) __builtin_prefetch(row + d);
}
constexpr int64_t kRowsAhead = 16;
template <class T>
[[gnu::always_inline]] inline void ask_for_block(const T* rows, int64_t row_stride, const KeyBlock& b,
                                                 int64_t dim) {
  for (int64_t i = 0; i < b.count; ++i) ask_for_row(rows + (b.first + i) * row_stride, dim);
}

template <bool kAsk, class T>
void dot_keys(const float* a, const T* b, int64_t b_row, int64_t keys, int64_t dim, float* out) {
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    for (int64_t i = 0; kAsk && i < 4; ++i) ask_for_row(b + (j + i + kRowsAhead) * b_row, dim);
    dot_rows<4>(a, b + j * b_row, b_row, dim, out + j);
  }
  for (; j < keys; ++j) dot_rows<1>(a, b + j * b_row, b_row, dim, out + j);
}

/// output [16 kVecs] += Σ weight · row of values, whose last vector has `last` lanes.
template <int kVecs, bool kAsk, class T>
inline void add_rows(const float* weights, const T* values, int64_t row_stride, int64_t rows, int64_t last,
                     float* output) {
  Vec sum[kVecs];
  for (int v = 0; v < kVecs; ++v) sum[v] = vload(output + 16 * v);
  for (int64_t j = 0; j < rows; ++j) {
    const Vec weight = vset(weights[j]);
    const T* const row = values + j * row_stride;
    if (kAsk) ask_for_row(row + kRowsAhead * row_stride, 16 * kVecs);
    for (int v = 0; v < kVecs; ++v)
      sum[v] = vfma(weight, v + 1 < kVecs ? vload(row + 16 * v) : vload_first(row + 16 * v, last), sum[v]);
  }
  for (int v = 0; v < kVecs; ++v) vstore(output + 16 * v, sum[v]);
}
template <bool kAsk, class T>
void add_values(const float* weights, const T* values, int64_t row_stride, int64_t rows, int64_t dim,
                float* output) {
  int64_t d = 0;
  for (; d + 64 <= dim; d += 64) add_rows<4, kAsk>(weights, values + d, row_stride, rows, 16, output + d);
  for (; d < dim; d += 16)
    add_rows<1, kAsk>(weights, values + d, row_stride, rows, std::min<int64_t>(16, dim - d), output + d);
}

template <class T>
void attention_few(const AttentionTask<T>& t, float* scratch) {
  const int64_t width = round_up(t.dim, 16);
  float *const queries = scratch, *const output = queries + t.group * width,
               *const scores = output + t.group * width, *const weights = scores + t.group * kKeyBlock;
  Running run;
  std::fill_n(queries, 2 * t.group * width, 0.0f);
  std::fill_n(run.highest, t.group, -std::numeric_limits<float>::infinity());
  std::fill_n(run.sum, t.group, 0.0f);
  for (int64_t head = 0; head < t.group; ++head) {
    for (int64_t d = 0; d < t.dim; ++d)
      queries[head * width + d] = static_cast<float>(t.q[head * t.q_head + d]);
  }
  const KeyRange range = seen(t, 0, 1);
  const auto ask_for = [&](const KeyBlock& b) {
    ask_for_block(t.k, t.k_row, b, t.dim);
    ask_for_block(t.v, t.v_row, b, t.dim);
  };
  const int64_t first = range.low / kKeyBlock * kKeyBlock;
  if (t.group > 1 && first < range.high) ask_for(key_block(first, t.keys));
  for (int64_t at = first; at < range.high; at += kKeyBlock) {
    const KeyBlock b = key_block(at, t.keys);
    const auto by_head = [&](int64_t head, auto asks, const auto* k, int64_t k_row, const auto* v,
                             int64_t v_row) {
      constexpr bool kAsk = decltype(asks)::value;
      float *const row = scores + head * kKeyBlock, *const out = output + head * width;
      dot_keys<kAsk>(queries + head * width, k, k_row, b.count, t.dim, row);
      std::fill(row + b.count, row + b.padded, 0.0f);
      finish_scores(t, head, 0, b, row);
      weigh_row(t, head, 0, b, row, weights + head * kKeyBlock, run.highest[head], run.sum[head], out, width);
      add_values<kAsk>(weights + head * kKeyBlock, v, v_row, b.count, t.dim, out);
    };
    const T *const k = t.k + at * t.k_row, *const v = t.v + at * t.v_row;
    if constexpr (!std::is_same_v<T, PackedAs<T>>) {
      // Where several heads read the block, it is widened once, while the next one is on its way.
      if (t.group > 1) {
        if (at + kKeyBlock < range.high) ask_for(key_block(at + kKeyBlock, t.keys));
        PackedAs<T>* const room = weights + t.group * kKeyBlock;
        const auto wide_k = left_rows(k, t.k_row, b.count, t.dim, room);
        const auto wide_v = left_rows(v, t.v_row, b.count, t.dim, room + b.count * width);
        for (int64_t head = 0; head < t.group; ++head)
          by_head(head, std::false_type(), wide_k.rows, wide_k.stride, wide_v.rows, wide_v.stride);
        continue;
      }
    }
    by_head(0, std::true_type(), k, t.k_row, v, t.v_row);
    for (int64_t head = 1; head < t.group; ++head) by_head(head, std::false_type(), k, t.k_row, v, t.v_row);
  }
  for (int64_t head = 0; head < t.group; ++head) {
    const Vec inverse = vset(run.sum[head] > 0 ? 1.0f / run.sum[head] : 0.0f);
    for (int64_t d = 0; d < t.dim; d += 16) {
      vstore_first(t.out + head * t.out_head + d, vload(output + head * width + d) * inverse,
                   std::min<int64_t>(16, t.dim - d));
    }
    t.log_sum[head * t.log_sum_head] = run.highest[head] + std::log(run.sum[head]);
  }
}
