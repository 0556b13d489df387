// Attention of one sequence and one head of keys, block by block, so that scores are never whole (Dao et al.
// 2022; Milakov and Gimelshein 2018 for the running softmax). Products run in PackedAs<T>, which is what the
// processor multiplies fastest.

constexpr int64_t kKeyBlock = 128, kQueryBlock = 64;

/// Rows [first, first + rows) of the queries against keys: which of them any row sees.
struct KeyRange {
  int64_t low, high;
};
template <class T>
KeyRange seen(const AttentionTask<T>& t, int64_t first, int64_t rows) {
  const int64_t start = t.keys - t.queries + first, end = start + rows;
  KeyRange r{0, t.keys};
  if (t.causal) r.high = end;
  if (t.window > 0) {
    r.low = std::max<int64_t>(0, start - t.window + 1);
    r.high = std::min(r.high, end - 1 + t.window);
  }
  r.high = std::min(r.high, t.keys);
  return r;
}

/// The block of keys that starts at `first`.
struct KeyBlock {
  int64_t first, count, padded;
};
inline KeyBlock key_block(int64_t first, int64_t keys) {
  const int64_t count = std::min(kKeyBlock, keys - first);
  return {first, count, round_up(count, 16)};
}

/// Dropout of sixteen weights: factors 0 or kept, for key `key` (a multiple of 16) and on. Words last for 64
/// keys.
struct DropoutLanes {
  Words words;
  int64_t group = -1;
  template <class T>
  Vec factors(const AttentionTask<T>& t, int64_t row, int64_t head, int64_t key) {
    if (key / 64 != group) {
      group = key / 64;
      words = philox_lanes(static_cast<uint64_t>(group) * 16, t.first_row + static_cast<uint32_t>(row),
                           t.first_head + static_cast<uint32_t>(head), PhiloxKey(t.drop_key));
    }
    return vkeep(words, static_cast<int>(key % 64 / 16), t.drop_below, vset(t.kept));
  }
};

/// Scores of one row against a block: scaled, with bias, -inf where not seen; in place.
template <class T>
void finish_scores(const AttentionTask<T>& t, int64_t head, int64_t row, const KeyBlock& b, float* s) {
  const KeyRange range = seen(t, row, 1);
  const int64_t position = t.keys - t.queries + row;
  const float* bias = t.bias ? t.bias + head * t.bias_head + b.first - position : nullptr;
  const Vec scale = vset(t.scale), none = vset(-std::numeric_limits<float>::infinity());
  const bool whole = range.low <= b.first && range.high >= b.first + b.padded;
  for (int64_t j = 0; j < b.padded; j += 16) {
    Vec x = vload(s + j) * scale;
    if (bias) x = x + vload_first(bias + j, std::min<int64_t>(16, b.count - j));
    if (!whole) x = vbetween(x, range.low - b.first - j, range.high - b.first - j, none);
    vstore(s + j, x);
  }
}

/// What a block of query rows carries from one block of keys to the next.
struct Running {
  float highest[kQueryBlock], sum[kQueryBlock];
};

/// One row's weights exp(score - highest) as T, dropped out; moves the row's running sum and output to the
/// new highest.
template <class T, class Weight>
void weigh_row(const AttentionTask<T>& t, int64_t head, int64_t row, const KeyBlock& b, const float* s,
               Weight* weights, float& highest, float& sum, float* output, int64_t width) {
  Vec top = vload(s);
  for (int64_t j = 16; j < b.padded; j += 16) top = vmax(top, vload(s + j));
  const float before = highest;
  highest = std::max(before, vhighest(top));
  const bool nothing = highest == -std::numeric_limits<float>::infinity();
  const Vec shift = vset(nothing ? 0.0f : highest);
  Vec total = vset(0.0f);
  DropoutLanes lanes;
  for (int64_t j = 0; j < b.padded; j += 16) {
    const Vec score = vload(s + j) - shift;
    // exp's range ends before -inf does: what is not seen has weight zero, not nearly zero.
    Vec w = vexp(score);
    total = total + w;
    if (t.drop_below) w = w * lanes.factors(t, row, head, b.first + j);
    vstore(weights + j, w);
  }
  if (highest != before && before != -std::numeric_limits<float>::infinity()) {
    const float factor = std::exp(before - highest);
    sum *= factor;
    for (int64_t d = 0; d < width; d += 16) vstore(output + d, vload(output + d) * vset(factor));
  }
  sum += vsum(total);
}

/// Rows as the left side of a product.
template <class P>
struct LeftRows {
  const P* rows;
  int64_t stride;
};
template <class P>
LeftRows<P> left_rows(const P* x, int64_t row_stride, int64_t, int64_t, P*) {
  return {x, row_stride};
}
inline LeftRows<float> left_rows(const Half* x, int64_t row_stride, int64_t rows, int64_t dim, float* room) {
  const int64_t width = round_up(dim, 16);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < dim; d += 16)
      vstore(room + i * width + d, vload_first(x + i * row_stride + d, std::min<int64_t>(16, dim - d)));
  }
  return {room, width};
}

template <class P>
struct ForwardScratch {
  int32_t *keys, *values;
  float *scores, *output;
  P *weights, *queries;
};
/// One block of queries of one head.
template <class T>
void forward_block(const AttentionTask<T>& t, const ForwardScratch<PackedAs<T>>& f, int64_t head,
                   int64_t first, int64_t rows) {
  using P = PackedAs<T>;
  const int64_t width = round_up(t.dim, 16), units = t.dim / kDepth<P>;
  const RightLayout values = right_layout(round_up(t.keys, 16) / kDepth<P>, t.dim);
  const LeftRows<P> q = left_rows(t.q + head * t.q_head + first * t.q_row, t.q_row, rows, t.dim, f.queries);
  Running run;
  std::fill_n(run.highest, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(run.sum, rows, 0.0f);
  std::fill_n(f.output, rows * width, 0.0f);
  const KeyRange range = seen(t, first, rows);
  for (int64_t at = range.low / kKeyBlock * kKeyBlock; at < range.high; at += kKeyBlock) {
    const KeyBlock b = key_block(at, t.keys);
    product<P>({q.rows, q.stride, f.keys + at * units, right_layout(units, b.padded), f.scores, kKeyBlock,
                units, false},
               rows, b.padded / 16);
    for (int64_t i = 0; i < rows; ++i) {
      finish_scores(t, head, first + i, b, f.scores + i * kKeyBlock);
      weigh_row(t, head, first + i, b, f.scores + i * kKeyBlock, f.weights + i * kKeyBlock, run.highest[i],
                run.sum[i], f.output + i * width, width);
    }
    product<P>({f.weights, kKeyBlock, f.values + at / kDepth<P> * values.step, values, f.output, width,
                b.padded / kDepth<P>, true},
               rows, width / 16);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const Vec inverse = vset(run.sum[i] > 0 ? 1.0f / run.sum[i] : 0.0f);
    T* out = t.out + head * t.out_head + (first + i) * t.out_row;
    for (int64_t d = 0; d < t.dim; d += 16) {
      vstore_first(out + d, vload(f.output + i * width + d) * inverse, std::min<int64_t>(16, t.dim - d));
    }
    t.log_sum[head * t.log_sum_head + first + i] = run.highest[i] + std::log(run.sum[i]);
  }
}

/// Keys and values of the whole sequence, packed by blocks of keys.
template <class P, class T>
void pack_keys(const T* x, int64_t row_stride, int64_t keys, int64_t dim, int32_t* out) {
  for (int64_t at = 0; at < keys; at += kKeyBlock) {
    const KeyBlock b = key_block(at, keys);
    const int64_t units = dim / kDepth<P>;
    pack_across<P>(x + at * row_stride, row_stride, b.count, dim, out + at * units,
                   right_layout(units, b.padded));
  }
}

/// Query blocks of nearly equal height.
template <class Block>
void each_query_block(int64_t queries, const Block& block) {
  int64_t first = 0;
  for (int64_t blocks = (queries + kQueryBlock - 1) / kQueryBlock; blocks > 0; --blocks) {
    const int64_t rows = (queries - first + blocks - 1) / blocks;
    block(first, rows);
    first += rows;
  }
}

template <class T>
void attention_forward(const AttentionTask<T>& t, float* scratch) {
  using P = PackedAs<T>;
  const int64_t width = round_up(t.dim, 16), padded = round_up(t.keys, 16);
  ForwardScratch<P> f;
  f.keys = reinterpret_cast<int32_t*>(scratch);
  f.values = f.keys + padded * (t.dim / kDepth<P>);
  f.scores = reinterpret_cast<float*>(f.values + padded / kDepth<P> * width);
  f.output = f.scores + kQueryBlock * kKeyBlock;
  f.weights = reinterpret_cast<P*>(f.output + kQueryBlock * width);
  f.queries = f.weights + kQueryBlock * kKeyBlock;
  pack_keys<P>(t.k, t.k_row, t.keys, t.dim, f.keys);
  pack_along<P>(t.v, t.v_row, t.keys, padded, t.dim, f.values);
  for (int64_t head = 0; head < t.group; ++head) {
    each_query_block(t.queries, [&](int64_t first, int64_t rows) { forward_block(t, f, head, first, rows); });
  }
}

template <class P>
struct BackwardScratch {
  int32_t *keys_across, *keys_along, *values_across, *queries_along, *d_out_along;
  float *scores, *d_scores, *d_q, *d_k, *d_v;
  P *narrow, *turned, *queries, *d_out;
  float delta[kQueryBlock];
};

/// Weights and gradients to scores of one row, in place of scores and gradients to weights.
template <class T, class P>
void backward_row(const AttentionTask<T>& t, int64_t head, int64_t row, const KeyBlock& b, float delta,
                  float* s, float* d, P* narrow) {
  finish_scores(t, head, row, b, s);
  const float log_sum = t.log_sum[head * t.log_sum_head + row];
  const int64_t position = t.keys - t.queries + row;
  float* d_bias = t.d_bias ? t.d_bias + head * t.bias_head + b.first - position : nullptr;
  DropoutLanes lanes;
  for (int64_t j = 0; j < b.padded; j += 16) {
    const Vec w = vexp(vload(s + j) - vset(log_sum));
    Vec d_weight = vload(d + j), dropped = w;
    if (t.drop_below) {
      const Vec factor = lanes.factors(t, row, head, b.first + j);
      d_weight = d_weight * factor;
      dropped = dropped * factor;
    }
    const Vec d_score = w * (d_weight - vset(delta));
    if (d_bias) {
      const int64_t n = std::min<int64_t>(16, b.count - j);
      vstore_first(d_bias + j, vload_first(d_bias + j, n) + d_score, n);
    }
    vstore(s + j, dropped);
    vstore(d + j, d_score * vset(t.scale));
    vstore(narrow + j, d_score * vset(t.scale));
  }
}

/// The left sides that a block of queries brings.
template <class P>
struct BlockRows {
  LeftRows<P> q, d_out;
};

template <class T>
void backward_pair(const AttentionTask<T>& t, BackwardScratch<PackedAs<T>>& f,
                   const BlockRows<PackedAs<T>>& left, int64_t head, int64_t first, int64_t rows,
                   const KeyBlock& b) {
  using P = PackedAs<T>;
  const int64_t units = t.dim / kDepth<P>, width = round_up(t.dim, 16),
                padded_rows = round_up(rows, 16 * kDepth<P>);
  const RightLayout across = right_layout(units, b.padded),
                    along = right_layout(padded_rows / kDepth<P>, t.dim),
                    keys = right_layout(round_up(t.keys, 16) / kDepth<P>, t.dim);
  product<P>({left.q.rows, left.q.stride, f.keys_across + b.first * units, across, f.scores, kKeyBlock, units,
              false},
             rows, b.padded / 16);
  product<P>({left.d_out.rows, left.d_out.stride, f.values_across + b.first * units, across, f.d_scores,
              kKeyBlock, units, false},
             rows, b.padded / 16);
  for (int64_t i = 0; i < rows; ++i) {
    backward_row(t, head, first + i, b, f.delta[i], f.scores + i * kKeyBlock, f.d_scores + i * kKeyBlock,
                 f.narrow + i * kKeyBlock);
  }
  if (t.d_q) {
    product<P>({f.narrow, kKeyBlock, f.keys_along + b.first / kDepth<P> * keys.step, keys, f.d_q, width,
                b.padded / kDepth<P>, true},
               rows, width / 16);
  }
  if (t.d_v) {
    turn(f.scores, kKeyBlock, rows, b.padded, f.turned, padded_rows);
    product<P>({f.turned, padded_rows, f.d_out_along, along, f.d_v + b.first * width, width,
                padded_rows / kDepth<P>, true},
               b.count, width / 16);
  }
  if (t.d_k) {
    turn(f.d_scores, kKeyBlock, rows, b.padded, f.turned, padded_rows);
    product<P>({f.turned, padded_rows, f.queries_along, along, f.d_k + b.first * width, width,
                padded_rows / kDepth<P>, true},
               b.count, width / 16);
  }
}

/// Rows of float, `width` apart, to rows of T.
template <class T>
void store_rows(const float* x, int64_t width, int64_t rows, int64_t dim, T* out, int64_t row_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < dim; d += 16) {
      vstore_first(out + i * row_stride + d, vload(x + i * width + d), std::min<int64_t>(16, dim - d));
    }
  }
}

template <class T>
void backward_block(const AttentionTask<T>& t, BackwardScratch<PackedAs<T>>& f, int64_t head, int64_t first,
                    int64_t rows) {
  using P = PackedAs<T>;
  const int64_t width = round_up(t.dim, 16), padded_rows = round_up(rows, 16 * kDepth<P>);
  const int64_t out_at = head * t.out_head + first * t.out_row;
  for (int64_t i = 0; i < rows; ++i) {
    Vec total = vset(0.0f);
    for (int64_t d = 0; d < t.dim; d += 16) {
      const int64_t at = out_at + i * t.out_row + d, n = std::min<int64_t>(16, t.dim - d);
      total = vfma(vload_first(t.d_out + at, n), vload_first(t.out + at, n), total);
    }
    f.delta[i] = vsum(total);
  }
  const T* const q = t.q + head * t.q_head + first * t.q_row;
  const BlockRows<P> left = {left_rows(q, t.q_row, rows, t.dim, f.queries),
                             left_rows(t.d_out + out_at, t.out_row, rows, t.dim, f.d_out)};
  if (t.d_k) pack_along<P>(q, t.q_row, rows, padded_rows, t.dim, f.queries_along);
  if (t.d_v) pack_along<P>(t.d_out + out_at, t.out_row, rows, padded_rows, t.dim, f.d_out_along);
  std::fill_n(f.d_q, rows * width, 0.0f);
  const KeyRange range = seen(t, first, rows);
  for (int64_t at = range.low / kKeyBlock * kKeyBlock; at < range.high; at += kKeyBlock) {
    backward_pair(t, f, left, head, first, rows, key_block(at, t.keys));
  }
  if (t.d_q) store_rows(f.d_q, width, rows, t.dim, t.d_q + out_at, t.out_row);
}

template <class T>
void attention_backward(const AttentionTask<T>& t, float* scratch) {
  using P = PackedAs<T>;
  const int64_t units = t.dim / kDepth<P>, width = round_up(t.dim, 16), padded = round_up(t.keys, 16);
  BackwardScratch<P> f;
  const auto take = [&scratch](int64_t floats) {
    float* const taken = scratch;
    scratch += round_up(floats, 16);
    return taken;
  };
  const auto take_units = [&take](int64_t n) { return reinterpret_cast<int32_t*>(take(n)); };
  f.keys_across = take_units(padded * units);
  f.values_across = take_units(padded * units);
  f.keys_along = take_units(padded / kDepth<P> * width);
  f.d_k = take(padded * width);
  f.d_v = take(padded * width);
  f.queries_along = take_units(kQueryBlock / kDepth<P> * width);
  f.d_out_along = take_units(kQueryBlock / kDepth<P> * width);
  f.scores = take(kQueryBlock * kKeyBlock);
  f.d_scores = take(kQueryBlock * kKeyBlock);
  f.d_q = take(kQueryBlock * width);
  f.narrow = reinterpret_cast<P*>(take(kQueryBlock * kKeyBlock));
  f.turned = reinterpret_cast<P*>(take(kQueryBlock * kKeyBlock));
  f.queries = reinterpret_cast<P*>(take(kQueryBlock * width));
  f.d_out = reinterpret_cast<P*>(take(kQueryBlock * width));
  pack_keys<P>(t.k, t.k_row, t.keys, t.dim, f.keys_across);
  pack_keys<P>(t.v, t.v_row, t.keys, t.dim, f.values_across);
  if (t.d_q) pack_along<P>(t.k, t.k_row, t.keys, padded, t.dim, f.keys_along);
  std::fill_n(f.d_k, padded * width, 0.0f);
  std::fill_n(f.d_v, padded * width, 0.0f);
  for (int64_t head = 0; head < t.group; ++head) {
    each_query_block(t.queries,
                     [&](int64_t first, int64_t rows) { backward_block(t, f, head, first, rows); });
  }
  if (t.d_k) store_rows(f.d_k, width, t.keys, t.dim, t.d_k, t.d_k_row);
  if (t.d_v) store_rows(f.d_v, width, t.keys, t.dim, t.d_v, t.d_k_row);
}
