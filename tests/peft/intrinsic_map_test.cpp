#include "graft/peft/intrinsic_map.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <functional>

#include "graft/base/error.h"
#include "graft/ops/hadamard.h"

namespace graft {
namespace {

using Shapes = std::vector<std::vector<int64_t>>;

std::vector<MappedTensor> named(const Shapes& shapes) {
  std::vector<MappedTensor> out;
  for (size_t i = 0; i < shapes.size(); ++i) {
    int64_t numel = 1;
    for (const int64_t size : shapes[i]) numel *= size;
    out.push_back({"tensor" + std::to_string(i), shapes[i], numel});
  }
  return out;
}

struct Problem {
  Shapes shapes{{6, 5}, {7}, {3, 4, 2}, {1}};
  std::vector<Tensor> bases, weights;
  Problem() {
    at::manual_seed(11);
    for (const auto& shape : shapes) {
      bases.push_back(at::randn(shape, at::kDouble));
      weights.push_back(at::randn(shape, at::kDouble));
    }
  }
  /// Something that is curved in every tensor.
  Tensor loss(const std::vector<Tensor>& tensors, size_t only = 99) const {
    Tensor sum = at::zeros({}, at::kDouble);
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (only != 99 && only != i) continue;
      sum = sum + (tensors[i].to(at::kDouble).tanh() * weights[i]).sum();
    }
    return sum;
  }
};

Tensor differences(const Tensor& at_point, const std::function<double(const Tensor&)>& value) {
  constexpr double kStep = 1e-5;
  Tensor out = at::zeros_like(at_point);
  for (int64_t i = 0; i < at_point.numel(); ++i) {
    Tensor up = at_point.clone(), down = at_point.clone();
    up[i] += kStep;
    down[i] -= kStep;
    out[i] = (value(up) - value(down)) / (2 * kStep);
  }
  return out;
}

// Central differences in float64: error kStep² from the third derivative, and 1e-16 / kStep from rounding.
constexpr double kDifferenceError = 1e-8;

struct Case {
  const char* name;
  bool per_tensor, dense, reference;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class IntrinsicGradient : public testing::TestWithParam<Case> {};

TEST_P(IntrinsicGradient, EqualsFiniteDifferences) {
  const Case& c = GetParam();
  const Problem problem;
  const bool factors = c.per_tensor;
  // 13 is more than the smallest tensors have, so that cropping counts.
  const IntrinsicMap map(
      named(problem.shapes),
      {.theta_size = 13, .seed = 3, .per_tensor = c.per_tensor, .dense = c.dense, .reference = c.reference});
  const Tensor theta0 = at::randn({13}, at::kDouble);
  const Tensor lambda0 = factors ? at::randn({5}, at::kDouble) : Tensor();  // one entry too many
  Tensor theta = theta0.clone().requires_grad_(true);
  Tensor lambda = factors ? lambda0.clone().requires_grad_(true) : Tensor();
  problem.loss(map.apply(problem.bases, theta, lambda)).backward();

  const at::NoGradGuard no_grad;
  Tensor expected = at::zeros_like(theta0);
  for (size_t i = 0; i < problem.shapes.size(); ++i) {
    const Tensor part = differences(theta0, [&](const Tensor& x) {
      return problem.loss(map.apply(problem.bases, x, lambda0), i).item<double>();
    });
    // The published code divides a tensor's gradient by the transform's size, the next power of two.
    const double size = std::exp2(std::ceil(std::log2(static_cast<double>(problem.bases[i].numel()))));
    expected += c.reference ? part / size : part;
  }
  EXPECT_LT((theta.grad() - expected).abs().max().item<double>(), kDifferenceError);
  EXPECT_GT(expected.abs().max().item<double>(), 1e-2);
  if (!factors) return;
  const Tensor of_lambda = differences(lambda0, [&](const Tensor& x) {
    return problem.loss(map.apply(problem.bases, theta0, x)).item<double>();
  });
  EXPECT_LT((lambda.grad() - of_lambda).abs().max().item<double>(), kDifferenceError);
  EXPECT_EQ(lambda.grad()[4].item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, IntrinsicGradient,
                         testing::Values(Case{"did", false, false, false},
                                         Case{"did_dense", false, true, false},
                                         Case{"said", true, false, false},
                                         Case{"said_dense", true, true, false},
                                         Case{"reference", true, false, true}),
                         [](const auto& tested) { return tested.param.name; });

TEST(IntrinsicMap, Float32TakesTheFastWayToTheSameNumbers) {
  const Problem problem;
  for (const bool per_tensor : {false, true}) {
    const IntrinsicMap map(named(problem.shapes), {.theta_size = 20, .seed = 4, .per_tensor = per_tensor});
    std::vector<Tensor> narrow_bases;
    for (const Tensor& base : problem.bases) narrow_bases.push_back(base.to(at::kFloat));
    Tensor wide = at::randn({20}, at::kDouble).requires_grad_(true);
    Tensor narrow = wide.detach().to(at::kFloat).requires_grad_(true);
    const auto a = map.apply(problem.bases, wide, Tensor()), b = map.apply(narrow_bases, narrow, Tensor());
    problem.loss(a).backward();
    problem.loss(b).backward();
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(b[i].scalar_type(), at::kFloat);
      EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-5);  // float32 sums of 64 terms of size 1
    }
    EXPECT_LT((wide.grad() - narrow.grad()).abs().max().item<double>(), 1e-5);
  }
}

TEST(IntrinsicMap, NarrowTensorsAreTheWideOnesRoundedOnce) {
  const Shapes shapes = {{300, 257}, {9}, {40, 30}};
  std::vector<Tensor> bases, d_out;
  for (const auto& shape : shapes) {
    bases.push_back(at::randn(shape).to(at::kBFloat16));
    d_out.push_back(at::randn(shape).to(at::kBFloat16));
  }
  std::vector<MappedTensor> mixed = named(shapes);
  mixed[0].narrow = mixed[2].narrow = true;
  for (const bool per_tensor : {false, true}) {
    const IntrinsicOptions options{.theta_size = 20, .seed = 3, .per_tensor = per_tensor};
    const Tensor start = at::randn({20}), factors = per_tensor ? at::tensor({1.5f, 0.5f, 2.0f}) : Tensor();
    std::vector<Tensor> gradients;
    std::vector<std::vector<Tensor>> results;
    for (const std::vector<MappedTensor>& tensors : {mixed, named(shapes)}) {
      const IntrinsicMap map(tensors, options);
      const Tensor theta = start.clone().requires_grad_();
      results.push_back(map.apply(bases, theta, factors));
      Tensor loss = at::zeros({});
      for (size_t i = 0; i < shapes.size(); ++i)
        loss = loss + (results.back()[i].to(at::kBFloat16) * d_out[i]).sum().to(at::kFloat);
      gradients.push_back(torch::autograd::grad({loss}, {theta})[0]);
    }
    for (size_t i = 0; i < shapes.size(); ++i) {
      EXPECT_EQ(results[0][i].scalar_type(), mixed[i].narrow ? at::kBFloat16 : at::kFloat);
      EXPECT_TRUE(at::equal(results[0][i].to(at::kBFloat16), results[1][i].to(at::kBFloat16))) << i;
    }
    EXPECT_TRUE(at::equal(gradients[0], gradients[1])) << per_tensor;
  }
}

TEST(IntrinsicMap, ThetaZeroGivesTheBasesBitForBit) {
  const Problem problem;
  const IntrinsicMap map(named(problem.shapes), {.theta_size = 9, .seed = 5});
  const auto values = map.apply(problem.bases, at::zeros({9}, at::kDouble), Tensor());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(values[i].equal(problem.bases[i]));
}

TEST(IntrinsicMap, ColumnsHaveNormOneOnAverage) {
  const Shapes shapes{{40, 33}};  // 1320 of 2048
  std::vector<Tensor> zero{at::zeros({40, 33}, at::kDouble)};
  for (const bool dense : {false, true}) {
    const IntrinsicMap map(named(shapes), {.theta_size = 100, .seed = 6, .dense = dense});
    double sum = 0;
    for (int64_t i = 0; i < 100; ++i) {
      Tensor unit = at::zeros({100}, at::kDouble);
      unit[i] = 1;
      sum += map.apply(zero, unit, Tensor())[0].norm().item<double>();
    }
    // A norm strays by about 1/√(2·1320) = 2 %, the mean of 100 by a tenth of that: five of those.
    EXPECT_NEAR(sum / 100, 1, 0.01);
  }
}

TEST(IntrinsicMap, PublishedExampleOfTheMap) {
  // The published code's formula with B, Π and G written out, θ = (0.1, -0.2, 0.3), 8 values.
  const Tensor signs = at::tensor({1., -1., 1., 1., -1., 1., -1., 1.});
  const Tensor order = at::tensor({3, 0, 7, 1, 6, 2, 5, 4}).to(at::kLong);
  const Tensor normals = at::tensor({0.5, -1., 2., 0.25, 1., -0.5, 1.5, -2.});
  const Tensor theta = at::constant_pad_nd(at::tensor({0.1, -0.2, 0.3}), {0, 5});
  const Tensor mixed = ops::hadamard_plain(theta * signs).index_select(0, order) * normals;
  const Tensor y = ops::hadamard_plain(mixed) / std::sqrt(8 * 12.8125);
  const Tensor expected = at::tensor({-0.241993751, 0.103711608, 0.083957016, -0.024693240, -0.064202424,
                                      -0.192607271, -0.093834312, 0.271625639});
  // Nine digits are printed.
  EXPECT_LT((y - expected).abs().max().item<double>(), 1e-8);
}

TEST(IntrinsicMap, RefusesWhatIsTooLarge) {
  const std::vector<MappedTensor> large{{"table", {int64_t{1} << 29}, int64_t{1} << 29}};
  EXPECT_THROW(IntrinsicMap(large, {.theta_size = 10}), UsageError);
  const std::vector<MappedTensor> wide{{"table", {int64_t{1} << 20}, int64_t{1} << 20}};
  EXPECT_THROW(IntrinsicMap(wide, {.theta_size = 1000, .dense = true}), UsageError);
}

}  // namespace
}  // namespace graft
