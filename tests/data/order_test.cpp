#include "graft/data/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "graft/base/error.h"
#include "graft/base/random.h"

namespace graft {
namespace {

using Batches = std::vector<std::vector<int64_t>>;

std::vector<int64_t> random_lengths(size_t count) {
  RandomStream random(5, "lengths");
  std::vector<int64_t> lengths(count);
  for (int64_t& length : lengths) length = 1 + static_cast<int64_t>(random.below(60));
  return lengths;
}

std::vector<int64_t> flat(const Batches& batches) {
  std::vector<int64_t> out;
  for (const auto& batch : batches) out.insert(out.end(), batch.begin(), batch.end());
  return out;
}

int64_t tokens(const std::vector<int64_t>& batch, const std::vector<int64_t>& lengths) {
  return std::accumulate(batch.begin(), batch.end(), int64_t{0},
                         [&](int64_t sum, int64_t i) { return sum + lengths[static_cast<size_t>(i)]; });
}

TEST(EpochBatches, EveryOptionGivesEverySequenceOnce) {
  const std::vector<int64_t> lengths = random_lengths(1003);
  for (const bool shuffle : {false, true}) {
    for (const bool group : {false, true}) {
      for (const int64_t by_tokens : {0, 200}) {
        std::vector<int64_t> all = flat(epoch_batches(
            lengths, {.batch_tokens = by_tokens, .shuffle = shuffle, .group_by_length = group}, 1, 0));
        std::sort(all.begin(), all.end());
        std::vector<int64_t> expected(lengths.size());
        std::iota(expected.begin(), expected.end(), int64_t{0});
        EXPECT_EQ(all, expected);
      }
    }
  }
}

TEST(EpochBatches, WithoutShufflingTheOrderIsTheFiles) {
  EXPECT_EQ(epoch_batches({1, 1, 1, 1, 1}, {.batch_size = 2, .shuffle = false}, 9, 3),
            (Batches{{0, 1}, {2, 3}, {4}}));
  EXPECT_EQ(epoch_batches({5, 1, 3, 3}, {.batch_size = 2, .shuffle = false, .group_by_length = true}, 9, 3),
            (Batches{{1, 2}, {3, 0}}));
}

TEST(EpochBatches, AreAFunctionOfSeedAndEpoch) {
  const std::vector<int64_t> lengths = random_lengths(100);
  for (const bool group : {false, true}) {
    const BatchOptions options{.group_by_length = group};
    const Batches first = epoch_batches(lengths, options, 1, 0);
    EXPECT_EQ(first, epoch_batches(lengths, options, 1, 0));
    EXPECT_NE(first, epoch_batches(lengths, options, 1, 1));
    EXPECT_NE(first, epoch_batches(lengths, options, 2, 0));
  }
}

TEST(EpochBatches, BoundTheTokens) {
  const std::vector<int64_t> lengths = random_lengths(500);
  const Batches batches = epoch_batches(lengths, {.batch_tokens = 100}, 1, 0);
  for (size_t i = 0; i < batches.size(); ++i) {
    EXPECT_LE(tokens(batches[i], lengths), 100);
    // Each batch is as full as the order allows: its successor's first sequence does not fit.
    if (i + 1 < batches.size()) {
      EXPECT_GT(tokens(batches[i], lengths) + lengths[static_cast<size_t>(batches[i + 1][0])], 100);
    }
  }
  EXPECT_EQ(epoch_batches({50, 200, 50}, {.batch_tokens = 100, .shuffle = false}, 1, 0),
            (Batches{{0}, {1}, {2}}));
}

TEST(EpochBatches, GroupsHoldLikeLengths) {
  const std::vector<int64_t> lengths = random_lengths(2000);
  const auto spread = [&](bool group) {
    int64_t sum = 0;
    for (const auto& batch : epoch_batches(lengths, {.group_by_length = group}, 1, 0)) {
      const auto [low, high] = std::minmax_element(batch.begin(), batch.end(), [&](int64_t a, int64_t b) {
        return lengths[static_cast<size_t>(a)] < lengths[static_cast<size_t>(b)];
      });
      sum += lengths[static_cast<size_t>(*high)] - lengths[static_cast<size_t>(*low)];
    }
    return sum;
  };
  // Groups of 50 batches sorted: a batch spans about 60 / 50 lengths in place of nearly all 60.
  EXPECT_LT(10 * spread(true), spread(false));
  const Batches batches = epoch_batches(lengths, {.group_by_length = true}, 1, 0);
  const auto rising = [&](size_t i) {
    return tokens(batches[i], lengths) <= tokens(batches[i + 1], lengths);
  };
  int rises = 0;
  for (size_t i = 0; i + 1 < 100; ++i) rises += rising(i);
  EXPECT_LT(rises, 80) << "the batches are in the order of their lengths";
}

TEST(EpochBatches, DropLastDropsOnlyWhatIsNotFull) {
  EXPECT_EQ(epoch_batches({1, 1, 1}, {.batch_size = 2, .shuffle = false, .drop_last = true}, 1, 0),
            (Batches{{0, 1}}));
  EXPECT_EQ(epoch_batches({1, 1}, {.batch_size = 2, .shuffle = false, .drop_last = true}, 1, 0),
            (Batches{{0, 1}}));
  EXPECT_EQ(epoch_batches({5, 5, 5}, {.batch_tokens = 10, .shuffle = false, .drop_last = true}, 1, 0),
            (Batches{{0, 1}}));
  EXPECT_TRUE(epoch_batches({1}, {.batch_size = 2, .drop_last = true}, 1, 0).empty());
}

TEST(EpochBatches, Edges) {
  EXPECT_TRUE(epoch_batches({}, {}, 1, 0).empty());
  EXPECT_EQ(epoch_batches({0, 0}, {.batch_tokens = 1, .shuffle = false}, 1, 0), (Batches{{0, 1}}));
  EXPECT_THROW(epoch_batches({1}, {.batch_size = 0}, 1, 0), UsageError);
  EXPECT_THROW(epoch_batches({1}, {.batch_tokens = -1}, 1, 0), UsageError);
}

}  // namespace
}  // namespace graft
