// Where keys lie: layout, prefix, cache, rows that are read.
#include "graft/nn/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"

namespace graft {
namespace {

/// Sums in another order, of a few terms of size one in float32.
constexpr double kRounding = 2e-6;

double difference(const Tensor& a, const Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e9;
}

struct Case {
  Layout layout = Layout::of({3, 1, 4});
  Tensor q = at::sin(at::arange(8 * 4 * 5, at::kFloat)).view({8, 4, 5});
  Tensor k = at::cos(at::arange(8 * 2 * 5, at::kFloat) * 1.7).view({8, 2, 5});
  Tensor v = at::sin(at::arange(8 * 2 * 5, at::kFloat) * 0.3).view({8, 2, 5});
};

TEST(Layout, OffsetsPositionsAndEnds) {
  const Layout layout = Layout::of({2, 0, 3}, {5, 0, 1});
  EXPECT_EQ(layout.offsets, (std::vector<int64_t>{0, 2, 2, 5}));
  EXPECT_TRUE(at::equal(layout.positions, at::tensor({5, 6, 1, 2, 3}, at::kLong)));
  EXPECT_EQ(layout.longest(), 3);
  EXPECT_EQ(layout.rows(), 5);
  EXPECT_TRUE(at::equal(Layout::of({2, 3}).first_rows(), at::tensor({0, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(Layout::of({2, 3}).last_rows(), at::tensor({1, 4}, at::kLong)));
  const Tensor ids = at::tensor({5, 1, 7, 6, 1, 1, 1}, at::kLong);
  EXPECT_TRUE(at::equal(Layout::of({3, 2, 2}).last_rows_without(ids, 1), at::tensor({2, 3, 5}, at::kLong)));
  EXPECT_NO_THROW(layout.check_positions(7));
  EXPECT_THROW(layout.check_positions(6), DataError);
  EXPECT_THROW(Layout::of({1}, {1, 2}), InternalError);
}

TEST(Attend, APrefixIsKeysInFrontOfEachSequence) {
  const Case c;
  Batch batch;
  batch.layout = c.layout;
  const Tensor key = at::cos(at::arange(2 * 2 * 5, at::kFloat)).view({2, 2, 5}), value = key.sin();
  batch.prefix = {{key, value}};
  const AttentionSettings settings{.causal = true};
  const Tensor got = attend({c.q, c.k, c.v}, {batch, batch.layout}, settings);
  for (size_t b = 0; b < 3; ++b) {
    const int64_t begin = c.layout.offsets[b], end = c.layout.offsets[b + 1];
    ops::AttentionOptions options;
    options.causal = true;
    const Tensor want = ops::attention_plain(
        c.q.slice(0, begin, end).contiguous(), at::cat({key, c.k.slice(0, begin, end)}),
        at::cat({value, c.v.slice(0, begin, end)}), {{0}, {end - begin}}, {{0}, {end - begin + 2}}, options);
    EXPECT_LT(difference(got.slice(0, begin, end), want.reshape({end - begin, -1})), kRounding) << b;
  }
}

TEST(Attend, ReadRowsAreFoundEarlyWhereTheyAreRuns) {
  Batch batch;
  batch.layout = Layout::of({3, 1, 4});
  const auto early = [&](std::vector<int64_t> rows) {
    batch.rows = at::tensor(rows, at::kLong);
    return ReadRows::of(batch, batch.layout)->early;
  };
  EXPECT_FALSE(ReadRows::of(batch, batch.layout).has_value());
  EXPECT_TRUE(early({0, 3, 4}));
  EXPECT_TRUE(early({1, 2, 6}));
  EXPECT_TRUE(early({3}));
  EXPECT_FALSE(early({0, 2}));
  EXPECT_FALSE(early({4, 0}));
  EXPECT_FALSE(early({3, 3}));
  EXPECT_FALSE(early({8}));
  batch.rows = at::tensor({1, 2, 6}, at::kLong);
  const auto read = ReadRows::of(batch, batch.layout);
  EXPECT_EQ(read->counts, (std::vector<int64_t>{2, 0, 1}));
  EXPECT_EQ(read->unread, (std::vector<int64_t>{0, 0, 1}));
  Trace trace;
  batch.trace = &trace;
  EXPECT_FALSE(ReadRows::of(batch, batch.layout).has_value());
}

TEST(Attend, ReadRowsEqualThoseOfAllRows) {
  const Case c;
  for (const bool causal : {false, true}) {
    for (const int64_t window : {0, 2}) {
      if (window > 0 && !causal) continue;
      Batch batch;
      batch.layout = c.layout;
      const AttentionSettings settings{.causal = causal, .window = window};
      const Tensor all = attend({c.q, c.k, c.v}, {batch, batch.layout}, settings);
      for (const std::vector<int64_t>& rows : {std::vector<int64_t>{1, 5, 6}, {0, 2, 3}, {7, 0, 7}}) {
        batch.rows = at::tensor(rows, at::kLong);
        const auto read = ReadRows::of(batch, batch.layout);
        const LayerPass pass{batch, batch.layout, 0, &*read};
        const Tensor got = attend({pass.query_input(c.q), c.k, c.v}, pass, settings);
        EXPECT_LT(difference(got, all.index_select(0, batch.rows)), kRounding);
      }
    }
  }
}

TEST(Cache, GrowsSelectsAndKeepsWhatItHolds) {
  KvCache cache(1, 2, 1);
  const auto rows = [](float first, int64_t count) {
    return (first + at::arange(count, at::kFloat)).view({count, 1, 1});
  };
  cache.append(0, rows(0, 3), rows(10, 3), Layout::of({1, 2}));
  cache.append(0, rows(3, 3), rows(13, 3), Layout::of({3, 0}));
  const auto held = [&](const Tensor& buffer, size_t b) {
    const auto spans = cache.spans(0);
    return buffer.slice(0, spans.starts[b], spans.starts[b] + spans.lengths[b]).flatten();
  };
  EXPECT_TRUE(at::equal(held(cache.keys(0), 0), at::tensor({0.f, 3.f, 4.f, 5.f})));
  EXPECT_TRUE(at::equal(held(cache.values(0), 1), at::tensor({11.f, 12.f})));
  cache.select({1, 0, 1});
  EXPECT_EQ(cache.sequences(), 3);
  EXPECT_EQ(cache.length(1), 4);
  EXPECT_TRUE(at::equal(held(cache.keys(0), 2), at::tensor({1.f, 2.f})));
  cache.append(0, rows(7, 3), rows(17, 3), Layout::of({1, 1, 1}));
  EXPECT_TRUE(at::equal(held(cache.keys(0), 2), at::tensor({1.f, 2.f, 9.f})));
  EXPECT_TRUE(at::equal(held(cache.keys(0), 0), at::tensor({1.f, 2.f, 7.f})));
  EXPECT_THROW(cache.append(0, rows(0, 1), rows(0, 1), Layout::of({1})), InternalError);
  EXPECT_THROW(cache.select({3}), InternalError);
}

TEST(Cache, OthersComeInTheSlotsOfThoseThatLeft) {
  const auto rows = [](float first, int64_t count) {
    return (first + at::arange(count, at::kFloat)).view({count, 1, 1});
  };
  KvCache cache(1, 3, 2), coming(1, 2, 3);
  cache.append(0, rows(0, 3), rows(10, 3), Layout::of({1, 1, 1}));
  const int64_t slots = cache.keys(0).size(0);
  const void* const place = cache.keys(0).data_ptr();
  cache.select({2, 1});
  EXPECT_EQ(cache.keys(0).data_ptr(), place) << "what stays is not moved";
  KvCache one(1, 1, 1);
  one.append(0, rows(50, 1), rows(60, 1), Layout::of({1}));
  cache.add(one);
  EXPECT_EQ(cache.keys(0).size(0), slots) << "the slot that was left is taken";
  coming.append(0, rows(20, 5), rows(30, 5), Layout::of({2, 3}));
  coming.select({1, 0});
  cache.add(coming);
  ASSERT_EQ(cache.sequences(), 5);
  cache.append(0, rows(40, 5), rows(50, 5), Layout::of({1, 1, 1, 1, 1}));
  const auto held = [&](const Tensor& buffer, size_t b) {
    const auto spans = cache.spans(0);
    return buffer.slice(0, spans.starts[b], spans.starts[b] + spans.lengths[b]).flatten();
  };
  EXPECT_TRUE(at::equal(held(cache.keys(0), 0), at::tensor({2.f, 40.f})));
  EXPECT_TRUE(at::equal(held(cache.keys(0), 1), at::tensor({1.f, 41.f})));
  EXPECT_TRUE(at::equal(held(cache.keys(0), 2), at::tensor({50.f, 42.f})));
  EXPECT_TRUE(at::equal(held(cache.keys(0), 3), at::tensor({22.f, 23.f, 24.f, 43.f})));
  EXPECT_TRUE(at::equal(held(cache.values(0), 4), at::tensor({30.f, 31.f, 54.f})));
  cache.select({});
  EXPECT_EQ(cache.sequences(), 0);
  cache.add(one);
  EXPECT_TRUE(at::equal(held(cache.values(0), 0), at::tensor({60.f})));
  EXPECT_THROW(cache.add(KvCache(2, 1, 1)), InternalError);
}

}  // namespace
}  // namespace graft
