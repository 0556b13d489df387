#include "graft/nn/attention.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/ops/few_values.h"

namespace graft {
namespace {

ops::AttentionOptions options_of(const AttentionSettings& settings, RandomStream* dropout) {
  ops::AttentionOptions options;
  options.causal = settings.causal;
  options.window = settings.window;
  options.scale = settings.scale;
  options.softcap = settings.softcap;
  options.distance_bias = settings.distance_bias;
  if (dropout != nullptr && settings.dropout > 0) {
    options.dropout = settings.dropout;
    options.key = dropout->next_key();
  }
  return options;
}

/// Keys or values with `front` [V, G, D] before the rows of each sequence for which `wanted`.
Tensor with_front(const Tensor& x, const Tensor& front, const Layout& layout,
                  const std::vector<bool>& wanted) {
  const Tensor source = at::cat({front.to(x.scalar_type()), x});
  const int64_t v = front.size(0);
  std::vector<int64_t> index;
  for (int64_t b = 0; b < layout.sequences(); ++b) {
    if (wanted[static_cast<size_t>(b)]) {
      for (int64_t i = 0; i < v; ++i) index.push_back(i);
    }
    for (int64_t i = layout.offsets[static_cast<size_t>(b)]; i < layout.offsets[static_cast<size_t>(b) + 1];
         ++i) {
      index.push_back(v + i);
    }
  }
  return source.index_select(0, at::tensor(index, at::kLong));
}

struct Keys {
  Tensor k, v;
  ops::Spans spans;
};

/// Where the keys lie: the batch's own rows, with the prefix in front, or in the cache.
Keys locate_keys(const Projections& p, const LayerPass& pass) {
  const Layout& layout = pass.layout;
  KvCache* cache = pass.batch.cache;
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < layout.sequences(); ++b) lengths.push_back(layout.length(b));
  Keys keys{p.k, p.v, {}};
  if (!pass.batch.prefix.empty()) {
    const KeyValue& prefix = pass.batch.prefix.at(static_cast<size_t>(pass.layer));
    std::vector<bool> fresh(lengths.size(), true);
    if (cache != nullptr) {
      const auto held = cache->spans(pass.layer).lengths;
      for (size_t b = 0; b < held.size() && b < fresh.size(); ++b) fresh[b] = held[b] == 0;
    }
    keys.k = with_front(p.k, prefix.key, layout, fresh);
    keys.v = with_front(p.v, prefix.value, layout, fresh);
    for (size_t b = 0; b < lengths.size(); ++b) {
      if (fresh[b]) lengths[b] += prefix.key.size(0);
    }
  }
  const bool longer = !pass.batch.prefix.empty();
  const Layout extended = longer ? Layout::of(lengths) : Layout{};
  const Layout& held = longer ? extended : layout;
  if (cache == nullptr) {
    keys.spans = ops::Spans::of(held.offsets);
    return keys;
  }
  cache->append(pass.layer, keys.k, keys.v, held);
  return {cache->keys(pass.layer), cache->values(pass.layer), cache->spans(pass.layer)};
}

/// The spans of early read rows; a causal query's sequence ends at the last row that is read. Sequences
/// without one are left out.
void narrow_to(const ReadRows& read, bool causal, ops::Spans& queries, ops::Spans& keys) {
  ops::Spans q, k;
  int64_t start = 0;
  for (size_t b = 0; b < read.counts.size(); ++b) {
    if (read.counts[b] == 0) continue;
    q.starts.push_back(start);
    q.lengths.push_back(read.counts[b]);
    k.starts.push_back(keys.starts[b]);
    k.lengths.push_back(keys.lengths[b] - (causal ? read.unread[b] : 0));
    start += read.counts[b];
  }
  queries = std::move(q);
  keys = std::move(k);
}

/// Counts and unread rows for ascending `rows`, each sequence's in one run; false where they are not so.
bool runs_of(const Tensor& rows, const Layout& layout, ReadRows& out) {
  const Tensor ids = rows.contiguous();
  const int64_t* row = ids.data_ptr<int64_t>();
  const int64_t* end = row + ids.numel();
  for (int64_t b = 0; b < layout.sequences(); ++b) {
    const int64_t last = layout.offsets[static_cast<size_t>(b) + 1];
    const int64_t* first = row;
    while (row < end && *row < last) {
      if (row > first && *row != row[-1] + 1) return false;
      ++row;
    }
    if (first < row && *first < layout.offsets[static_cast<size_t>(b)]) return false;
    out.counts.push_back(row - first);
    out.unread.push_back(first < row ? last - 1 - row[-1] : 0);
  }
  return row == end;
}

}  // namespace

std::optional<ReadRows> ReadRows::of(const Batch& batch, const Layout& layout) {
  if (!batch.rows.defined() || batch.trace != nullptr) return {};
  ReadRows read;
  read.rows = batch.rows;
  read.early = runs_of(batch.rows, layout, read);
  return read;
}

Tensor read_rows(const Tensor& x, const ReadRows* read) {
  return read == nullptr ? x : x.index_select(0, read->rows);
}

Tensor LayerPass::query_positions() const {
  return read != nullptr && read->early ? layout.positions.index_select(0, read->rows) : layout.positions;
}

Tensor LayerPass::query_input(const Tensor& x) const {
  return read != nullptr && read->early ? read_rows(x, read) : x;
}

Projections project(const Linear& q, const Linear& k, const Linear& v, const Tensor& x, const LayerPass& pass,
                    int64_t head_dim) {
  RandomStream* dropout = pass.batch.dropout;
  const auto heads = [&](const Tensor& y) {
    return ops::shaped(y, {y.size(0), y.size(1) / head_dim, head_dim});
  };
  const Tensor asked = pass.query_input(x);
  if (asked.is_same(x)) {
    const std::vector<Tensor> all = Linear::forward_together({&q, &k, &v}, x, dropout);
    return {heads(all[0]), heads(all[1]), heads(all[2])};
  }
  const Tensor queries = q.forward(asked, dropout);
  const std::vector<Tensor> others = Linear::forward_together({&k, &v}, x, dropout);
  return {heads(queries), heads(others[0]), heads(others[1])};
}

Tensor attend(const Projections& projections, const LayerPass& pass, const AttentionSettings& settings) {
  const Keys keys = locate_keys(projections, pass);
  return attend_across({projections.q, keys.k, keys.v}, pass, keys.spans, settings);
}

Tensor attend_across(const Projections& projections, const LayerPass& pass, const ops::Spans& keys,
                     const AttentionSettings& settings) {
  ops::Spans queries = ops::Spans::of(pass.layout.offsets), seen = keys;
  const ReadRows* read = pass.read;
  // A window or a distance counts from the query's place, which only a causal narrowing keeps.
  const bool placed = settings.window > 0 || settings.distance_bias.defined();
  if (read != nullptr && read->early) {
    if (placed && !settings.causal)
      throw InternalError("attention", "read rows under a bidirectional window");
    narrow_to(*read, settings.causal, queries, seen);
  }
  Tensor y = ops::attention(projections.q, projections.k, projections.v, queries, seen,
                            options_of(settings, pass.batch.dropout));
  y = ops::shaped(y, {y.size(0), y.size(1) * y.size(2)});
  return read != nullptr && !read->early ? read_rows(y, read) : y;
}

}  // namespace graft
