#include "graft/ops/fastfood.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/ops/fastfood_blocks.h"

namespace graft::ops {
namespace {

Tensor product(const Fastfood& map, const Tensor& x) {
  Tensor out = at::empty({map.size()});
  fastfood(map, x, out);
  return out;
}

Tensor transposed_product(const Fastfood& map, const Tensor& g, int64_t d) {
  Tensor used = g.clone();
  return fastfood_transposed(map, used, d);
}

double error(const Tensor& a, const Tensor& b) { return (a - b).norm().item<double>(); }

TEST(Fastfood, ThePermutationIsOne) {
  for (int bits = 0; bits <= 18; ++bits) {
    const Fastfood map{.key = 77, .bits = bits};
    const auto sorted = std::get<0>(fastfood_permutation(map).sort());
    EXPECT_TRUE(at::equal(sorted, at::arange(map.size(), at::kLong))) << "2^" << bits;
  }
}

TEST(Fastfood, ThePermutationLooksRandom) {
  const Fastfood map{.key = 5, .bits = 16};
  const Tensor p = fastfood_permutation(map).to(at::kDouble);
  const int64_t n = map.size();
  const Tensor centred = p - p.mean();
  for (const int64_t lag : {1, 2, 3, 64, 256, 4096}) {
    const double correlation =
        ((centred.narrow(0, 0, n - lag) * centred.narrow(0, lag, n - lag)).mean() / centred.pow(2).mean())
            .item<double>();
    // Of random order the correlation is N(0, 1/n): five standard deviations.
    EXPECT_LT(std::abs(correlation), 5 / 256.0) << lag;
  }
  // Places that stay: Poisson of mean 1.
  EXPECT_LT((p == at::arange(n, at::kDouble)).sum().item<int64_t>(), 10);
  // Neighbours' low bits: 16 × 16 pairs, each n / 256 times; chi-square of 255 degrees of freedom.
  std::vector<double> pairs(256);
  const Tensor held = fastfood_permutation(map);
  const auto* const index = held.data_ptr<int64_t>();
  for (int64_t j = 0; j + 1 < n; j += 2)
    pairs[static_cast<size_t>((index[j] & 15) * 16 + (index[j + 1] & 15))] += 1;
  double chi = 0;
  const double expected = static_cast<double>(n) / 2 / 256;
  for (const double count : pairs) chi += (count - expected) * (count - expected) / expected;
  EXPECT_LT(chi, 255 + 5 * std::sqrt(2 * 255.0));
}

TEST(Fastfood, OtherKeysGiveOtherMaps) {
  const Tensor a = fastfood_permutation({.key = 1, .bits = 10}),
               b = fastfood_permutation({.key = 2, .bits = 10});
  EXPECT_LT((a == b).sum().item<int64_t>(), 12);
  EXPECT_FALSE(
      at::allclose(fastfood_normals({.key = 1, .bits = 10}), fastfood_normals({.key = 2, .bits = 10})));
}

TEST(Fastfood, TheNormalsAreNormal) {
  const Fastfood map{.key = 9, .bits = 20};
  const Tensor g = fastfood_normals(map).to(at::kDouble);
  const double n = static_cast<double>(map.size());
  // Five standard errors of each estimate.
  EXPECT_LT(std::abs(g.mean().item<double>()), 5 / std::sqrt(n));
  EXPECT_LT(std::abs(g.pow(2).mean().item<double>() - 1), 5 * std::sqrt(2 / n));
  EXPECT_LT(std::abs(g.pow(3).mean().item<double>()), 5 * std::sqrt(15 / n));
  EXPECT_LT(std::abs(g.pow(4).mean().item<double>() - 3), 5 * std::sqrt(96 / n));
  for (const double x : {-2.5, -1.0, -0.1, 0.0, 0.7, 1.9, 3.2}) {
    const double share = (g < x).to(at::kDouble).mean().item<double>();
    const double exact = 0.5 * std::erfc(-x / std::sqrt(2.0));
    EXPECT_LT(std::abs(share - exact), 5 * std::sqrt(exact * (1 - exact) / n)) << x;
  }
  EXPECT_NEAR(fastfood_square_sum(map), g.pow(2).sum().item<double>(), 1e-6 * n);
}

TEST(Fastfood, TheNormalsAreBoxAndMullersOfPhilox) {
  const Fastfood map{.key = 0x123456789ABCDEFull, .bits = 8};
  const Tensor g = fastfood_normals(map);
  for (int64_t i = 0; i < map.size(); i += 2) {
    const auto words = philox({static_cast<uint32_t>(i / 4), 0, kDrawNormals, 0}, {0x89ABCDEF, 0x1234567});
    const size_t at = i % 4 == 0 ? 0 : 2;
    const double radius = std::sqrt(-2 * std::log(((words[at] >> 8) + 1) / 16777216.0));
    const double angle = static_cast<int32_t>(words[at + 1]) * (M_PI / 4 / 2147483648.0);
    double a = radius * std::cos(angle) * (words[at] & 2 ? -1 : 1), b = radius * std::sin(angle);
    if (words[at] & 1) std::swap(a, b);
    // Seven significant digits of float32, the errors of logarithm, root, and sine together.
    EXPECT_NEAR(g[i].item<double>(), a, 2e-6);
    EXPECT_NEAR(g[i + 1].item<double>(), b, 2e-6);
  }
}

TEST(Fastfood, EqualsThePlainForm) {
  at::manual_seed(1);
  for (const int bits : {0, 1, 2, 3, 5, 8, 13, 17, 19}) {
    const Fastfood map{.key = 1000 + static_cast<uint64_t>(bits), .bits = bits};
    for (const int64_t wanted : {1, 2, 3, 100, 5000, 1 << 19}) {
      const int64_t d = std::min<int64_t>(wanted, map.size());
      const Tensor x = at::randn({d}), g = at::randn({map.size()});
      const double root = std::sqrt(fastfood_square_sum(map));
      const double column = root * std::sqrt(static_cast<double>(map.size()));
      const double row = root * std::sqrt(static_cast<double>(d));
      const Tensor forward = fastfood_plain(map, x.to(at::kDouble));
      const Tensor backward = fastfood_transposed_plain(map, g.to(at::kDouble), d);
      // Up to 2^19 terms added in float32 in another order; the errors are those of sums of that size.
      EXPECT_LT(error(product(map, x), forward), 1e-6 * column * x.norm().item<double>()) << bits << ' ' << d;
      EXPECT_LT(error(transposed_product(map, g, d), backward), 2e-6 * row * g.norm().item<double>())
          << bits << ' ' << d;
    }
  }
}

TEST(Fastfood, TheTransposedIsTheAdjoint) {
  at::manual_seed(2);
  const Fastfood map{.key = 3, .bits = 11};
  const Tensor x = at::randn({300}, at::kDouble), g = at::randn({map.size()}, at::kDouble);
  const double forward = fastfood_plain(map, x).dot(g).item<double>();
  const double backward = x.dot(fastfood_transposed_plain(map, g, 300)).item<double>();
  EXPECT_NEAR(forward, backward, 1e-11 * std::abs(forward) + 1e-9);
}

TEST(Fastfood, ColumnsHaveTheirNormAndAreNearlyOrthogonal) {
  const Fastfood map{.key = 4, .bits = 12};
  const int64_t d = 64;
  std::vector<Tensor> columns;
  for (int64_t i = 0; i < d; ++i) {
    Tensor unit = at::zeros({d});
    unit[i] = 1;
    columns.push_back(product(map, unit));
  }
  const double norm = std::sqrt(static_cast<double>(map.size()) * fastfood_square_sum(map));
  const Tensor p = at::stack(columns).to(at::kDouble) / norm;
  const Tensor gram = p.matmul(p.t());
  EXPECT_LT((gram.diagonal() - 1).abs().max().item<double>(), 1e-5);  // float32's
  // Inner products are N(0, 3 / 2^12) at most; 2016 of them stay within six standard deviations.
  EXPECT_LT((gram - gram.diagonal().diag()).abs().max().item<double>(), 6 * std::sqrt(3.0 / 4096));
}

TEST(Fastfood, OneAndTwoThreadsGiveTheSameBits) {
  at::manual_seed(3);
  const Fastfood map{.key = 6, .bits = 20};
  const int threads = at::get_num_threads();
  const Tensor x = at::randn({700}), g = at::randn({map.size()});
  at::set_num_threads(1);
  const Tensor forward = product(map, x), backward = transposed_product(map, g, 700);
  const double sum = fastfood_square_sum(map);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(product(map, x), forward));
  EXPECT_TRUE(at::equal(transposed_product(map, g, 700), backward));
  EXPECT_EQ(fastfood_square_sum(map), sum);
  at::set_num_threads(threads);
}

/// What a form makes of the same stretch, which ends in the middle of one too.
std::vector<Tensor> stretches(const FastfoodBlocks& blocks, const Tensor& table, const Tensor& g) {
  const Fastfood map{.key = 7, .bits = 12};
  const Permutation order = permutation(map);
  std::vector<Tensor> out = {at::zeros({map.size()}), at::zeros({256}), at::zeros({map.size()})};
  blocks.spread(map, order, table.const_data_ptr<float>(), 255, 32, 4090, out[0].mutable_data_ptr<float>());
  blocks.collect(map, order, g.const_data_ptr<float>(), 255, 32, 4090, out[1].mutable_data_ptr<float>());
  blocks.normals(map, 32, 4090, out[2].mutable_data_ptr<float>());
  return out;
}

TEST(Fastfood, EveryWidthOfVectorGivesTheSameBits) {
  at::manual_seed(4);
  const Tensor table = at::randn({256}), g = at::randn({int64_t{1} << 12});
  const std::vector<Tensor> expected = stretches(kFastfood, table, g);
  int forms = 0;
  for (const FastfoodBlocks* blocks : {fastfood_avx2(), fastfood_avx512()}) {
    if (!blocks) continue;
    ++forms;
    const std::vector<Tensor> got = stretches(*blocks, table, g);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], expected[i])) << i;
  }
  if (!forms) GTEST_SKIP() << "this processor has neither AVX2 nor AVX-512";
}

TEST(Fastfood, RefusesWhatDoesNotFit) {
  Tensor out = at::zeros({8});
  EXPECT_THROW(fastfood({.key = 1, .bits = 3}, at::zeros({9}), out), InternalError);
  EXPECT_THROW(fastfood({.key = 1, .bits = 4}, at::zeros({9}), out), InternalError);
  EXPECT_THROW(fastfood({.key = 1, .bits = 40}, at::zeros({9}), out), InternalError);
  EXPECT_THROW(fastfood_transposed({.key = 1, .bits = 3}, out, 0), InternalError);
  Tensor wide = at::zeros({8}, at::kDouble);
  EXPECT_THROW(fastfood({.key = 1, .bits = 3}, at::zeros({2}), wide), InternalError);
}

}  // namespace
}  // namespace graft::ops
