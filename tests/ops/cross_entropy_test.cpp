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

TEST(CrossEntropy, RefusesLabelsOutside) {
  for (const int64_t label : {int64_t{-1}, int64_t{4}}) {
    EXPECT_THROW(ops::cross_entropy(at::zeros({1, 4}), at::full({1}, label, at::kLong)), DataError);
  }
  EXPECT_THROW(ops::cross_entropy(at::zeros({2, 4}), at::zeros({1}, at::kLong)), InternalError);
}

}  // namespace
}  // namespace graft::test
