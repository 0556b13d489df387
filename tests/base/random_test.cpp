#include "graft/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace graft {
namespace {

using Block = std::array<uint32_t, 4>;

TEST(Philox, EqualsThePublishedVectors) {
  // Salmon et al. 2011, Random123's known-answer file, philox4x32 with 10 rounds.
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, IsAFunctionOfSeedAndName) {
  RandomStream a(1, "dropout"), same(1, "dropout"), name(1, "order"), seed(2, "dropout");
  const uint64_t first = a.next_u64();
  EXPECT_EQ(first, same.next_u64());
  EXPECT_NE(first, name.next_u64());
  EXPECT_NE(first, seed.next_u64());
}

TEST(RandomStream, SeekGoesOnWhereItStood) {
  for (const uint64_t skip : {0u, 1u, 2u, 3u, 4u, 5u, 8u}) {
    RandomStream a(7, "x");
    for (uint64_t i = 0; i < skip; ++i) a.next_u32();
    EXPECT_EQ(a.position(), skip);
    RandomStream b(7, "x");
    b.next_u64();
    b.seek(skip);
    for (int i = 0; i < 9; ++i) EXPECT_EQ(a.next_u32(), b.next_u32()) << skip << " " << i;
  }
}

TEST(RandomStream, NormalAndUniformTakeAFixedNumberOfWords) {
  RandomStream stream(1, "x");
  stream.uniform();
  EXPECT_EQ(stream.position(), 2u);
  stream.normal();
  EXPECT_EQ(stream.position(), 6u);
}

TEST(RandomStream, HasTheMomentsOfItsDistributions) {
  RandomStream stream(3, "moments");
  constexpr int kDraws = 100000;
  double uniform = 0, normal = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = stream.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    uniform += u;
    const double n = stream.normal();
    normal += n;
    square += n * n;
  }
  // Five standard errors of each mean: σ/√n with σ = √(1/12), 1 and √2.
  const double root = std::sqrt(kDraws);
  EXPECT_NEAR(uniform / kDraws, 0.5, 5 * std::sqrt(1.0 / 12) / root);
  EXPECT_NEAR(normal / kDraws, 0, 5 / root);
  EXPECT_NEAR(square / kDraws, 1, 5 * std::sqrt(2.0) / root);
}

TEST(RandomStream, BelowIsEvenAndInBounds) {
  RandomStream stream(4, "below");
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) ++counts.at(stream.below(6));
  // Five standard deviations of a binomial count: √(60000 · 1/6 · 5/6) = 91.
  for (const int count : counts) EXPECT_NEAR(count, 10000, 456);
  EXPECT_EQ(stream.below(1), 0u);
  for (int i = 0; i < 100; ++i) EXPECT_LT(stream.below(UINT64_MAX), UINT64_MAX);
}

}  // namespace
}  // namespace graft
