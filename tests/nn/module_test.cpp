// The tree of named tensors, and the maps that hooks act in.
#include "graft/nn/module.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/nn/activation.h"
#include "graft/nn/embedding.h"
#include "graft/nn/linear.h"
#include "graft/nn/norm.h"

namespace graft {
namespace {

class Inner : public Module {
 public:
  Inner() : map(3, 2, true) { add("map", map); }
  Linear map;
};

class Outer : public Module {
 public:
  Outer() : tied(inner.map.weight, true) {
    own = add("own", {4});
    add("", inner);
    add("a.b", tied);
  }
  Inner inner;
  Linear tied;
  std::shared_ptr<Parameter> own;
};

std::vector<std::string> names(const std::vector<Module::NamedParameter>& parameters) {
  std::vector<std::string> out;
  for (const auto& row : parameters) out.push_back(row.first);
  return out;
}

TEST(Module, NamesFollowTheTreeAndTiedTensorsCountOnce) {
  Outer outer;
  EXPECT_EQ(names(outer.named_parameters()),
            (std::vector<std::string>{"own", "map.weight", "map.bias", "a.b.bias"}));
  EXPECT_EQ(names(outer.named_parameters(true)),
            (std::vector<std::string>{"own", "map.weight", "map.bias", "a.b.weight", "a.b.bias"}));
  EXPECT_EQ(outer.find("map"), &outer.inner.map);
  EXPECT_EQ(outer.find("a.b"), &outer.tied);
  EXPECT_EQ(outer.find(""), &outer);
  EXPECT_EQ(outer.find("a"), nullptr);
  EXPECT_EQ(outer.named_modules().size(), 3u);
}

TEST(Module, UntiedMapsHaveTheirOwnWeight) {
  Outer outer;
  outer.inner.map.weight->base = at::ones({2, 3});
  outer.tied.untie();
  outer.tied.weight->base = at::zeros({2, 3});
  EXPECT_EQ(outer.inner.map.weight->base.sum().item<double>(), 6);
  EXPECT_EQ(names(outer.named_parameters()).size(), 5u);
}

class Doubling : public LinearHook {
 public:
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override { return 2 * base.apply(x); }
};

TEST(Linear, HookStandInAndBaseAreApart) {
  Linear map(3, 2, true);
  map.weight->base = at::tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).view({2, 3});
  map.bias->base = at::tensor({0.5f, -0.5f});
  const Tensor x = at::tensor({1.f, 0.f, -1.f}).view({1, 3});
  const Tensor plain = at::tensor({-1.5f, -2.5f}).view({1, 2});
  EXPECT_TRUE(at::equal(map.forward(x), plain));
  map.hook = std::make_shared<Doubling>();
  EXPECT_TRUE(at::equal(map.forward(x), 2 * plain));
  map.hook = nullptr;
  map.weight->stand_in = at::zeros({2, 3}).requires_grad_(true);
  map.bias->stand_in = at::zeros({2}).requires_grad_(true);
  map.forward(x).sum().backward();
  EXPECT_TRUE(at::equal(map.weight->stand_in.grad(), x.expand({2, 3})));
  EXPECT_TRUE(at::equal(map.bias->stand_in.grad(), at::ones({2})));
  map.weight->stand_in = Tensor();
  map.bias->stand_in = Tensor();
  EXPECT_TRUE(at::equal(map.forward(x), plain));
}

TEST(Linear, Float32StandsInForBFloat16) {
  Linear map(4, 3, false);
  map.weight->base = at::ones({3, 4}, at::kBFloat16);
  map.weight->stand_in = at::full({3, 4}, 2.f).requires_grad_(true);
  const Tensor y = map.forward(at::ones({2, 4}, at::kBFloat16));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  y.sum().backward();
  EXPECT_EQ(map.weight->stand_in.grad().scalar_type(), at::kFloat);
  EXPECT_TRUE((map.weight->stand_in.grad() == 2).all().item<bool>());
}

TEST(Embedding, LooksUpItsRowsAndRefusesOthers) {
  Embedding table(3, 2);
  table.weight->base = at::arange(6, at::kFloat).view({3, 2});
  EXPECT_TRUE(
      at::equal(table.forward(at::tensor({2, 0}, at::kLong)), at::tensor({4.f, 5.f, 0.f, 1.f}).view({2, 2})));
  EXPECT_THROW(table.forward(at::tensor({3}, at::kLong)), DataError);
  EXPECT_THROW(table.forward(at::tensor({-1}, at::kLong)), DataError);
  EXPECT_EQ(table.forward(at::empty({0}, at::kLong)).size(0), 0);
  const Tensor given = at::ones({1, 2}, at::kDouble);
  EXPECT_EQ(table.inputs({}, given).scalar_type(), at::kFloat);
  table.weight->stand_in = at::zeros({3, 2}).requires_grad_(true);
  table.forward(at::tensor({1, 1}, at::kLong)).sum().backward();
  EXPECT_TRUE(
      at::equal(table.weight->stand_in.grad(), at::tensor({0.f, 0.f, 2.f, 2.f, 0.f, 0.f}).view({3, 2})));
}

TEST(Norm, RootMeanSquareKeepsTheShape) {
  RmsNorm norm(2, 1e-6);
  norm.weight->base = at::ones({2});
  const Tensor x = at::tensor({3.f, 4.f, -6.f, 8.f, 1.f, 1.f, 2.f, 2.f}).view({2, 2, 2});
  const Tensor y = norm.forward(x);
  EXPECT_EQ(y.sizes(), x.sizes());
  // 3 / √((9 + 16) / 2), in float32
  EXPECT_NEAR(y[0][0][0].item<double>(), 0.848528, 1e-5);
}

TEST(Activation, KnowsTheNamesOfConfigFiles) {
  const Tensor x = at::tensor({-1.f, 0.f, 2.f});
  EXPECT_TRUE(at::equal(activation("relu")(x), at::tensor({0.f, 0.f, 2.f})));
  EXPECT_TRUE(at::equal(activation("swish")(x), activation("silu")(x)));
  // 2 Φ(2) exactly, and by the tanh form that gelu_new means: the two differ from the fourth digit on.
  EXPECT_NEAR(activation("gelu")(x)[2].item<double>(), 1.9544997, 1e-6);
  EXPECT_NEAR(activation("gelu_new")(x)[2].item<double>(), 1.9545977, 1e-6);
  try {
    activation("gelu_nw");
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("gelu_new"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace graft
