// Sums of updates, and several adapters in one batch.
#include "graft/peft/combine.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/peft/row_ranges.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::largest_difference;

Tensor matrix(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values), at::kDouble).view({2, -1});
}

TEST(Combine, StackedIsTheExactSum) {
  at::manual_seed(1);
  const std::vector<LowRankUpdate> parts{{at::randn({2, 5}), at::randn({4, 2})},
                                         {at::randn({3, 5}), at::randn({4, 3})}};
  const LowRankUpdate sum = stacked(parts, {0.5, -2});
  const Tensor expected = 0.5 * at::matmul(parts[0].b, parts[0].a) - 2 * at::matmul(parts[1].b, parts[1].a);
  EXPECT_EQ(sum.a.size(0), 5);
  EXPECT_LT(largest_difference(at::matmul(sum.b, sum.a), expected), 1e-5);
}

TEST(Combine, NearestKeepsTheLargestSingularValues) {
  at::manual_seed(2);
  const Tensor delta = at::randn({6, 4}, at::kDouble);
  const auto s = std::get<1>(at::linalg_svd(delta, false));
  const LowRankUpdate two = nearest(delta, 2);
  const double missed = (delta - at::matmul(two.b, two.a)).square().sum().item<double>();
  EXPECT_NEAR(missed, s.narrow(0, 2, 2).square().sum().item<double>(), 1e-9);
  EXPECT_LT(largest_difference(at::matmul(nearest(delta, 9).b, nearest(delta, 9).a), delta), 1e-9);
}

TEST(Combine, MagnitudePruneKeepsTheLargest) {
  const Tensor delta = matrix({1, -4, 3, 0.5, 2, -0.1});
  EXPECT_TRUE(combined({delta}, {2}, {.name = "magnitude_prune", .density = 0.5}, "m")
                  .equal(matrix({0, -8, 6, 0, 4, 0})));
}

/// Worked by hand after PEFT's rule: pruned, elected by the unweighted sum, the mean of the weighted that
/// agree.
TEST(Combine, TiesElectsASign) {
  const Tensor a = matrix({4, -1, 2, 3}), b = matrix({-2, -3, 1, -3});
  EXPECT_TRUE(combined({a, b}, {1, 1}, {.name = "ties"}, "m").equal(matrix({4, -2, 1.5, 3})));
  // The larger half of each first: 4, 3 and -3, -3.
  EXPECT_TRUE(combined({a, b}, {1, 2}, {.name = "ties", .density = 0.5}, "m").equal(matrix({4, -6, 0, 3})));
  const Tensor c = matrix({-1, 1, 1, 1}), d = matrix({-1, 1, 1, 1});
  EXPECT_EQ(combined({a, c, d}, {1, 1, 1}, {.name = "ties", .by_frequency = true}, "m")[0][0].item<double>(),
            -1);
  EXPECT_EQ(combined({a, c, d}, {1, 1, 1}, {.name = "ties"}, "m")[0][0].item<double>(), 4);
}

TEST(Combine, DareKeepsTheMean) {
  const Tensor ones = at::ones({200, 200}, at::kDouble);
  const Tensor out = combined({ones}, {1}, {.name = "dare_linear", .density = 0.25, .seed = 3}, "m");
  // 40000 draws: the mean's deviation is √(0.75 / 0.25 / 40000) = 0.009.
  EXPECT_NEAR(out.mean().item<double>(), 1, 0.04);
  EXPECT_TRUE(out.eq(0).logical_or(out.eq(4)).all().item<bool>());
  EXPECT_TRUE(out.equal(combined({ones}, {1}, {.name = "dare_ties", .density = 0.25, .seed = 3}, "m")));
}

TEST(Combine, RefusesWhatIsNoRule) {
  const Tensor delta = matrix({1, 2});
  EXPECT_THROW(combined({delta}, {1}, {.name = "tie"}, "m"), UsageError);
  EXPECT_THROW(combined({delta}, {1}, {.name = "ties", .density = 0}, "m"), UsageError);
}

TEST(RowRanges, EachSequenceSeesItsOwnAdapter) {
  const auto model = test::tiny_model(test::tiny_models()[2]);
  const auto make = [&](const char* config, uint64_t seed) {
    const Json document = parse_json(config, "config");
    Adapter adapter = tuning_method(document["name"].get<std::string>()).create(document, *model, seed);
    test::move_tensors(adapter, 0.1 * static_cast<double>(seed));
    return adapter;
  };
  const Adapter lora =
      make(R"({"name": "lora", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "embed_tokens"]})", 1);
  const Adapter ia3 = make(R"({"name": "ia3"})", 2);
  const std::vector<test::Text> texts{test::some_text(1, 5), test::some_text(2, 3), test::some_text(3, 4)};
  const auto alone = [&](const Adapter* adapter, size_t text) {
    const at::NoGradGuard no_grad;
    if (adapter) attach(*adapter, *model);
    const Tensor out = test::answer(*model, nullptr, test::batch_of(*model, {texts[text]}));
    detach(*model);
    return out;
  };
  const Tensor expected = at::cat({alone(&lora, 0), alone(nullptr, 1), alone(&ia3, 2)});
  const auto ends = std::make_shared<std::vector<int64_t>>(std::vector<int64_t>{5, 8, 12});
  const Adapter together = side_by_side({&lora, nullptr, &ia3}, ends);
  attach(together, *model);
  const at::NoGradGuard no_grad;
  // Rows in other places: sums in another order only.
  EXPECT_LT(largest_difference(test::answer(*model, &together, test::batch_of(*model, texts)), expected),
            2e-5);
  ends->back() = 11;
  EXPECT_THROW(test::answer(*model, &together, test::batch_of(*model, texts)), UsageError);
  const Adapter full = make(R"({"name": "full"})", 1);
  EXPECT_THROW(side_by_side({&lora, &full}, ends), UsageError);
}

}  // namespace
}  // namespace graft
