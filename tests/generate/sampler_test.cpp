#include "graft/generate/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "graft/base/error.h"

namespace graft {
namespace {

std::vector<size_t> kept(const std::vector<float>& scores) {
  std::vector<size_t> out;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::isfinite(scores[i])) out.push_back(i);
  }
  return out;
}

/// Logits whose softmax is exactly these probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> out;
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

const std::vector<float> kLogits = logits_of({0.1, 0.4, 0.05, 0.25, 0.2});

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler({}, 0);
  EXPECT_EQ(sampler.next(std::vector<float>{1, 5, 5, 2}, {}), 1);
}

TEST(Sampler, TopKKeepsEqualsOfTheKth) {
  const Sampler sampler({.temperature = 1, .top_k = 2}, 0);
  EXPECT_EQ(kept(sampler.scores(kLogits, {})), (std::vector<size_t>{1, 3}));
  EXPECT_EQ(kept(sampler.scores(std::vector<float>{3, 1, 2, 2}, {})), (std::vector<size_t>{0, 2, 3}));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  // 0.4 + 0.25 = 0.65 < 0.7, so that 0.2 still belongs to it.
  EXPECT_EQ(kept(Sampler({.temperature = 1, .top_p = 0.7}, 0).scores(kLogits, {})),
            (std::vector<size_t>{1, 3, 4}));
  EXPECT_EQ(kept(Sampler({.temperature = 1, .top_p = 0.6}, 0).scores(kLogits, {})),
            (std::vector<size_t>{1, 3}));
  EXPECT_EQ(kept(Sampler({.temperature = 1, .top_p = 0}, 0).scores(kLogits, {})), (std::vector<size_t>{1}));
}

TEST(Sampler, MinPIsAShareOfTheLikeliest) {
  EXPECT_EQ(kept(Sampler({.temperature = 1, .min_p = 0.3}, 0).scores(kLogits, {})),
            (std::vector<size_t>{1, 3, 4}));
}

TEST(Sampler, TemperatureComesBeforeTopP) {
  // At temperature 0.5 the probabilities are squared: 0.16 / 0.275 = 0.58 alone reaches 0.55, which 0.4 does
  // not.
  EXPECT_EQ(kept(Sampler({.temperature = 0.5, .top_p = 0.55}, 0).scores(kLogits, {})),
            (std::vector<size_t>{1}));
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeOnce) {
  const Sampler sampler({.repetition_penalty = 2}, 0);
  EXPECT_EQ(sampler.scores(std::vector<float>{4, -3, 1}, std::vector<int64_t>{0, 1, 0, 1}),
            (std::vector<float>{2, -6, 1}));
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  Sampler sampler({.temperature = 1, .seed = 3}, 0);
  const std::vector<double> expected{0.1, 0.4, 0.05, 0.25, 0.2};
  std::vector<double> counts(5);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) counts[static_cast<size_t>(sampler.next(kLogits, {}))] += 1;
  // Five standard deviations of a share of 0.4 in so many draws: 5 · √(0.4 · 0.6 / 20000) = 0.017.
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(counts[i] / kDraws, expected[i], 0.018);
}

TEST(Sampler, EqualSeedsDrawEqually) {
  Sampler a({.temperature = 1, .seed = 7}, 2), b({.temperature = 1, .seed = 7}, 2),
      c({.temperature = 1, .seed = 8}, 2);
  std::vector<int64_t> from_a, from_b, from_c;
  for (int i = 0; i < 40; ++i) {
    from_a.push_back(a.next(kLogits, {}));
    from_b.push_back(b.next(kLogits, {}));
    from_c.push_back(c.next(kLogits, {}));
  }
  EXPECT_EQ(from_a, from_b);
  EXPECT_NE(from_a, from_c);
}

TEST(Sampler, LeftOutTokensAreNeverDrawn) {
  Sampler sampler({.temperature = 5, .top_k = 2, .seed = 1}, 0);
  for (int i = 0; i < 200; ++i) {
    const int64_t id = sampler.next(kLogits, {});
    EXPECT_TRUE(id == 1 || id == 3) << id;
  }
}

TEST(Sampler, BrokenLogitsAreAnError) {
  Sampler sampler({}, 0);
  EXPECT_THROW(sampler.next(std::vector<float>{1, std::nanf(""), 2}, {}), DataError);
}

}  // namespace
}  // namespace graft
