#include "graft/nn/chunked_sum.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/ops/cross_entropy.h"
#include "graft/ops/frozen_linear.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

Tensor drawn(std::vector<int64_t> shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(shape, at::kDouble);
}

struct Gradients {
  double sum;
  Tensor x, w, v;
};

/// Σ of (x w) (x v) over all elements, where w is a leaf and v is computed from one outside of the part.
Gradients run(int64_t rows, double factor) {
  const Tensor x = drawn({7, 3}, 1).requires_grad_(true), w = drawn({3}, 2).requires_grad_(true),
               v = drawn({3}, 3).requires_grad_(true);
  const Tensor outside = v * v;
  const auto part = [&](const Tensor& y, int64_t) { return ((y * w) * (y * outside)).sum(); };
  const Tensor sum = rows > 0 ? chunked_sum(part, x, rows) : part(x, 0);
  (sum * factor).backward();
  return {sum.item<double>(), x.grad(), w.grad(), v.grad()};
}

TEST(ChunkedSum, EqualsTheWholeSumAndItsGradients) {
  const Gradients whole = run(0, 0.5);
  for (const int64_t rows : {1, 2, 7, 100}) {
    const Gradients chunked = run(rows, 0.5);
    EXPECT_NEAR(chunked.sum, whole.sum, 1e-12);
    EXPECT_TRUE(at::allclose(chunked.x, whole.x, 1e-12, 1e-12)) << rows;
    EXPECT_TRUE(at::allclose(chunked.w, whole.w, 1e-12, 1e-12)) << rows;
    EXPECT_TRUE(at::allclose(chunked.v, whole.v, 1e-12, 1e-12)) << rows;
  }
}

TEST(ChunkedSum, KnowsEachChunksPlaceAndKeepsNoneOfThem) {
  const Tensor x = at::ones({5, 2}).requires_grad_(true);
  std::vector<int64_t> places, rows;
  c10::weak_intrusive_ptr<c10::TensorImpl> before(at::empty({0}).getIntrusivePtr());
  const auto part = [&](const Tensor& y, int64_t first) {
    EXPECT_TRUE(before.expired()) << "a chunk's activation was kept";
    places.push_back(first);
    rows.push_back(y.size(0));
    const Tensor middle = y.exp();
    before = c10::weak_intrusive_ptr<c10::TensorImpl>(middle.getIntrusivePtr());
    return (middle * middle).sum();
  };
  const Tensor sum = chunked_sum(part, x, 2);
  EXPECT_EQ(places, (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(rows, (std::vector<int64_t>{2, 2, 1}));
  sum.backward();
  EXPECT_EQ(places.size(), 3U) << "a chunk ran again";
}

TEST(ChunkedSum, GradientsOfAnInputThatIsNotWantedAreNotMade) {
  const Tensor w = at::full({2}, 3.0F).requires_grad_(true);
  const Tensor sum =
      chunked_sum([&](const Tensor& y, int64_t) { return (y * w).sum(); }, at::ones({4, 2}), 3);
  sum.backward();
  EXPECT_TRUE(at::equal(w.grad(), at::full({2}, 4.0F)));
}

TEST(ChunkedSum, NoRowsStillHaveAGradient) {
  const Tensor x = at::ones({0, 2}).requires_grad_(true);
  const Tensor sum = chunked_sum([](const Tensor& y, int64_t) { return y.sum(); }, x, 3);
  EXPECT_EQ(sum.item<float>(), 0);
  sum.backward();
  EXPECT_EQ(x.grad().sizes(), at::IntArrayRef({0, 2}));
}

TEST(ChunkedSum, WithoutGradientIsTheNumberAlone) {
  const at::NoGradGuard no_grad;
  const Tensor x = at::ones({4, 2}).requires_grad_(true);
  const Tensor sum = chunked_sum([](const Tensor& y, int64_t) { return y.sum(); }, x, 3);
  EXPECT_EQ(sum.item<float>(), 8);
  EXPECT_FALSE(sum.requires_grad());
}

TEST(ChunkedSum, SecondBackwardIsRefused) {
  const Tensor x = at::ones({4, 2}).requires_grad_(true);
  const Tensor sum = chunked_sum([](const Tensor& y, int64_t) { return (y * y).sum(); }, x, 3);
  sum.backward({}, true);
  EXPECT_THROW(sum.backward(), std::exception);
}

/// A vocabulary's loss as models make it.
Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                            const Tensor& targets, ops::PackedWeight& packed, int64_t rows) {
  const auto part = [&](const Tensor& some, int64_t first) {
    return ops::cross_entropy(ops::frozen_linear(some, weight, bias, packed),
                              targets.narrow(0, first, some.size(0)));
  };
  return chunked_sum(part, hidden, rows);
}
Tensor linear_cross_entropy_plain(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                  const Tensor& targets) {
  return ops::cross_entropy_plain(ops::frozen_linear_plain(hidden, weight, bias), targets);
}

TEST(LinearCrossEntropy, FastEqualsPlain) {
  struct Case {
    int64_t rows, n;
  };
  each_form([](at::ScalarType type) {
    for (const Case& c : {Case{1, 2}, Case{7, 16}, Case{40, 1000}}) {
      // Every third row counts nothing.
      const Tensor target = at::arange(c.rows, at::kLong) * 37 % c.n;
      for (int64_t i = 1; i < c.rows; i += 3) target[i] = -100;
      for (const bool biased : {false, true}) {
        const Tensor weight = (normal({c.n, 24}, 2) / 5).to(type);
        const Tensor bias = biased ? normal({c.n}, 3).to(type) : Tensor();
        ops::PackedWeight packed;
        expect_fast(
            [&](const auto& v) { return linear_cross_entropy(v[0], weight, bias, target, packed, 6); },
            [&](const auto& v) { return linear_cross_entropy_plain(v[0], weight, bias, target); },
            {normal({c.rows, 24}, 1)}, {type}, fmt::format("{}×{}", c.rows, c.n));
      }
    }
  });
}

TEST(LinearCrossEntropy, ChunksAddUp) {
  const Tensor hidden = normal({400, 8}, 1, at::kFloat), weight = normal({50000, 8}, 2, at::kFloat);
  const Tensor target = at::arange(400, at::kLong) * 100;
  ops::PackedWeight packed;
  // The gradient sums 50,000 terms: rounding grows with the root of their number.
  expect_fast([&](const auto& v) { return linear_cross_entropy(v[0], weight, {}, target, packed, 96); },
              [&](const auto& v) { return linear_cross_entropy_plain(v[0], weight, {}, target); }, {hidden},
              {at::kFloat}, "chunks", 4);
}

}  // namespace
}  // namespace graft::test
