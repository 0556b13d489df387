// The last query of a sequence, for generation: keys and values are read once, where they lie, and serve all
// heads of the group.

/// Σ a b over a head's dimensions.
template <class T>
inline float dot_row(const float* a, const T* b, int64_t dim) {
  Vec sum = vset(0.0f);
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16) sum = vfma(vload(a + d), vload(b + d), sum);
  if (d < dim) sum = vfma(vload(a + d), vload_first(b + d, dim - d), sum);
  return vsum(sum);
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
  for (int64_t at = range.low / kKeyBlock * kKeyBlock; at < range.high; at += kKeyBlock) {
    const KeyBlock b = key_block(at, t.keys);
    for (int64_t j = 0; j < b.count; ++j) {
      for (int64_t head = 0; head < t.group; ++head)
        scores[head * kKeyBlock + j] = dot_row(queries + head * width, t.k + (at + j) * t.k_row, t.dim);
    }
    for (int64_t head = 0; head < t.group; ++head) {
      float* const row = scores + head * kKeyBlock;
      std::fill(row + b.count, row + b.padded, 0.0f);
      finish_scores(t, head, 0, b, row);
      weigh_row(t, head, 0, b, row, weights + head * kKeyBlock, run.highest[head], run.sum[head],
                output + head * width, width);
    }
    for (int64_t j = 0; j < b.count; ++j) {
      const T* const value = t.v + (at + j) * t.v_row;
      for (int64_t d = 0; d < t.dim; d += 16) {
        const Vec v = vload_first(value + d, std::min<int64_t>(16, t.dim - d));
        for (int64_t head = 0; head < t.group; ++head) {
          float* const out = output + head * width + d;
          vstore(out, vfma(vset(weights[head * kKeyBlock + j]), v, vload(out)));
        }
      }
    }
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
