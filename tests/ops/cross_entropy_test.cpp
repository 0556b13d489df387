#include "graft/ops/cross_entropy.h"

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

struct Case {
  int64_t rows, n;
};
const std::vector<Case> kCases = {{1, 2}, {5, 3}, {7, 16}, {40, 1000}, {0, 4}};

/// Every third row counts nothing.
Tensor targets(const Case& c) {
  Tensor out = at::arange(c.rows, at::kLong) * 37 % c.n;
  for (int64_t i = 1; i < c.rows; i += 3) out[i] = -100;
  return out;
}

TEST(CrossEntropy, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : kCases) {
      const Tensor target = targets(c);
      expect_fast([&](const auto& v) { return ops::cross_entropy(v[0], target); },
                  [&](const auto& v) { return ops::cross_entropy_plain(v[0], target); },
                  {normal({c.rows, c.n}, 1) * 3}, {type}, fmt::format("{}×{}", c.rows, c.n));
    }
  });
}

TEST(CrossEntropy, PlainGradientsEqualDifferences) {
  for (const Case& c : kCases) {
    const Tensor target = targets(c);
    expect_gradients([&](const auto& v) { return ops::cross_entropy_plain(v[0], target); },
                     {normal({c.rows, c.n}, 1)}, "plain");
  }
}

/// The gradient to x of the loss of 2 x; `held`: somebody has the logits meanwhile.
Tensor gradient_of_doubled(const Tensor& x, const Tensor& target, Tensor* held) {
  Tensor loss;
  {
    const Tensor logits = x * 2;
    if (held) *held = logits;
    loss = ops::cross_entropy(logits, target);
  }
  return torch::autograd::grad({loss}, {x})[0];
}

TEST(CrossEntropy, WritesOverNoLogitsThatSomebodyHas) {
  each_form([](at::ScalarType type) {
    const Case c{40, 1000};
    const Tensor target = targets(c), x = normal({c.rows, c.n}, 1).to(type).requires_grad_(true);
    Tensor held;
    const Tensor kept = gradient_of_doubled(x, target, &held),
                 in_place = gradient_of_doubled(x, target, nullptr);
    EXPECT_TRUE(at::equal(held, x.detach() * 2));
    EXPECT_TRUE(at::equal(kept, in_place));
    const Tensor loss = ops::cross_entropy(x * 2, target);
    torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true);
    EXPECT_THROW(torch::autograd::grad({loss}, {x}), InternalError);
  });
}

TEST(CrossEntropy, RefusesLabelsOutside) {
  for (const int64_t label : {int64_t{-1}, int64_t{4}}) {
    EXPECT_THROW(ops::cross_entropy(at::zeros({1, 4}), at::full({1}, label, at::kLong)), DataError);
  }
  EXPECT_THROW(ops::cross_entropy(at::zeros({2, 4}), at::zeros({1}, at::kLong)), InternalError);
}

}  // namespace
}  // namespace graft::test
