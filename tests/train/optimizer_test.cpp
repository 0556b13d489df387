#include "graft/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/json.h"
#include "graft/ops/low_rank.h"

namespace graft {
namespace {

Tensor leaf(std::vector<float> values) { return at::tensor(values).requires_grad_(true); }

TEST(Decays, LeavesOutBiasesAndNorms) {
  for (const char* key :
       {"base_model.model.encoder.layer.0.attention.output.LayerNorm.weight", "a.b.bias", "lora_bias",
        "model.layers.3.input_layernorm.weight", "model.norm.weight", "h.0.ln_1.weight",
        "self_attn.q_norm.weight", "post_attention_layernorm.weight", "RMSNorm.weight"}) {
    EXPECT_FALSE(decays(key)) << key;
  }
  for (const char* key :
       {"q_proj.lora_A.weight", "classifier.weight", "normalizer.weight", "embed_tokens.weight"}) {
    EXPECT_TRUE(decays(key)) << key;
  }
}

/// The groups of PEFT's create_loraplus_optimizer.
TEST(LoraPlus, GroupsHaveRatesOfTheirOwn) {
  TrainConfig config;
  config.learning_rate = 1e-3;
  const Tensor matrix = at::zeros({2, 2}), vector = at::zeros({2});
  const auto rate = [&](const char* key, const Tensor& tensor) {
    return group_learning_rate(key, tensor, 5e-4, config);  // in the middle of the schedule
  };
  EXPECT_EQ(rate("q_proj.lora_B.weight", matrix), 5e-4);
  config.loraplus_lr_ratio = 16;
  EXPECT_DOUBLE_EQ(rate("q_proj.lora_A.weight", matrix), 5e-4);
  EXPECT_DOUBLE_EQ(rate("q_proj.lora_B.weight", matrix), 8e-3);
  EXPECT_DOUBLE_EQ(rate("q_proj.lora_magnitude_vector", vector), 8e-3);
  EXPECT_DOUBLE_EQ(rate("classifier.weight", matrix), 5e-4);
  EXPECT_DOUBLE_EQ(rate("embed_tokens.lora_embedding_B", matrix), 5e-7);
}

/// What a pass without gradients has packed is packed anew after a step.
TEST(Optimizer, AStepIsSeenByWhoPackedATensor) {
  for (const char* name : {"adamw", "sgd", "lion", "adafactor"}) {
    TrainConfig config;
    config.optimizer = name;
    const Tensor a = at::full({2, 16}, 0.5).requires_grad_(true),
                 b = at::full({16, 2}, 0.25).requires_grad_(true);
    const Tensor x = at::ones({3, 16}), y = at::zeros({3, 16});
    ops::PackedLowRank packed;
    const auto value = [&] {
      const at::NoGradGuard no_grad;
      return ops::low_rank_add(y, x, a, b, 1, packed);
    };
    const Tensor before = value();
    for (const Tensor& one : {a, b}) one.mutable_grad() = at::ones_like(one);
    Optimizer optimizer({{"a", a}, {"b", b}}, config);
    optimizer.step(1, 0.1, 1);
    const at::NoGradGuard no_grad;
    EXPECT_FALSE(value().equal(before)) << name;
    EXPECT_TRUE(value().equal(ops::low_rank_add(y, x, a, b, 1))) << name;
  }
}

TEST(Optimizer, NormIsOverAllTensors) {
  TensorMap trained{{"a", leaf({0, 0})}, {"b", leaf({0})}};
  trained["a"].mutable_grad() = at::tensor({3.0F, 0.0F});
  trained["b"].mutable_grad() = at::tensor({4.0F});
  const Optimizer optimizer(trained, {});
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5);
}

TEST(Optimizer, ClippingMultipliesByTorchsFactor) {
  TrainConfig config;
  config.max_grad_norm = 1;
  TensorMap trained{{"a", leaf({0, 0})}};
  trained["a"].mutable_grad() = at::tensor({3.0F, 4.0F});
  Optimizer optimizer(trained, config);
  optimizer.step(1, 0.1, 5);
  // float32 of 3 / (5 + 1e-6): one rounding each of factor and product.
  EXPECT_NEAR(trained["a"].grad()[0].item<double>(), 3 / (5 + 1e-6), 1e-7);
  EXPECT_NEAR(trained["a"].grad()[1].item<double>(), 4 / (5 + 1e-6), 1e-7);
  optimizer.clear_gradients();
  EXPECT_FALSE(trained["a"].grad().defined());
}

TEST(Optimizer, SmallGradientsAndZeroLimitAreNotClipped) {
  for (const double limit : {10.0, 0.0}) {
    TrainConfig config;
    config.max_grad_norm = limit;
    TensorMap trained{{"a", leaf({0, 0})}};
    trained["a"].mutable_grad() = at::tensor({3.0F, 4.0F});
    Optimizer optimizer(trained, config);
    optimizer.step(1, 0.1, 5);
    EXPECT_EQ(trained["a"].grad()[1].item<float>(), 4);
  }
}

TEST(Optimizer, FirstStepIsTheLearningRateAgainstTheSign) {
  TrainConfig config;
  config.weight_decay = 0.5;
  TensorMap trained{{"weight", leaf({2, -2})}, {"bias", leaf({2, -2})}};
  for (auto& [key, tensor] : trained) tensor.mutable_grad() = at::tensor({0.3F, -0.2F});
  Optimizer optimizer(trained, config);
  optimizer.step(1, 0.1, 0.1);
  // Bias-corrected moments of one gradient give g / (|g| + eps): 1 to 1e-7, in float32.
  EXPECT_NEAR(trained["bias"][0].item<double>(), 2 - 0.1, 1e-6);
  EXPECT_NEAR(trained["bias"][1].item<double>(), -2 + 0.1, 1e-6);
  EXPECT_NEAR(trained["weight"][0].item<double>(), 2 * (1 - 0.1 * 0.5) - 0.1, 1e-6);
  EXPECT_NEAR(trained["weight"][1].item<double>(), -2 * (1 - 0.1 * 0.5) + 0.1, 1e-6);
}

TEST(Optimizer, TensorsWithoutGradientStay) {
  TensorMap trained{{"a", leaf({1})}};
  Optimizer optimizer(trained, {});
  optimizer.step(1, 0.1, 0);
  EXPECT_EQ(trained["a"].item<float>(), 1);
}

TEST(Optimizer, WrongBetasAreRefused) {
  TrainConfig config;
  config.betas = {0.9};
  EXPECT_THROW(Optimizer({{"a", leaf({1})}}, config), UsageError);
  config.betas = {0.9, 1.0};
  EXPECT_THROW(Optimizer({{"a", leaf({1})}}, config), UsageError);
}

TEST(Optimizer, OnlyAdafactorScalesByParameters) {
  TrainConfig config;
  config.scale_parameter = true;
  EXPECT_THROW(Optimizer({}, config), UsageError);
  config.optimizer = "adafactor";
  EXPECT_NO_THROW(Optimizer({}, config));
}

TEST(Optimizer, OnlyTrainedFloatTensorsAreTaken) {
  EXPECT_THROW(Optimizer({{"a", at::zeros({2})}}, {}), InternalError);
  EXPECT_THROW(Optimizer({{"a", at::zeros({2}, at::kDouble).requires_grad_(true)}}, {}), InternalError);
}

/// What torch and transformers computed (tests/reference/make_optimizers.py).
class Reference : public ::testing::TestWithParam<const char*> {
 protected:
  const Json document = read_json(std::string(GRAFT_SOURCE_DIR) + "/tests/reference/optimizers.json");
  Tensor tensor(const Json& values, const std::string& key) const {
    return at::tensor(values[key].get<std::vector<float>>())
        .view(document["shapes"][key].get<std::vector<int64_t>>());
  }
  TrainConfig config() const {
    auto out = read_fields<TrainConfig>(document["cases"][GetParam()]["config"], "train");
    out.max_grad_norm = 0;
    return out;
  }
  TensorMap start() const {
    TensorMap out;
    for (const auto& [key, shape] : document["shapes"].items())
      out[key] = tensor(document["start"], key).clone().requires_grad_(true);
    return out;
  }
  void train(Optimizer& optimizer, size_t from, size_t to) const {
    for (size_t i = from; i < to; ++i) {
      for (auto [key, parameter] : optimizer.trained())
        parameter.mutable_grad() = tensor(document["gradients"][i], key);
      optimizer.step(static_cast<int64_t>(i) + 1, document["learning_rate"].get<double>(), 1);
    }
  }
};

TEST_P(Reference, StepsAreTheReferences) {
  Optimizer optimizer(start(), config());
  train(optimizer, 0, document["gradients"].size());
  for (const auto& [key, parameter] : optimizer.trained()) {
    const Tensor wanted = tensor(document["cases"][GetParam()]["end"], key);
    // Six steps that round values near 1 a few times each.
    EXPECT_LT((parameter.detach() - wanted).abs().max().item<double>(), 2e-6) << key;
    EXPECT_GT((parameter.detach() - tensor(document["start"], key)).abs().max().item<double>(), 0.01) << key;
  }
}

TEST_P(Reference, GoesOnFromItsStateWithTheSameBits) {
  Optimizer whole(start(), config()), first(start(), config()), second(start(), config());
  const size_t steps = document["gradients"].size();
  train(whole, 0, steps);
  train(first, 0, 3);
  const at::NoGradGuard no_grad;
  for (auto [key, parameter] : second.trained()) parameter.copy_(first.trained().at(key));
  ASSERT_EQ(first.state().size(), second.state().size());
  for (auto [key, tensor] : second.state()) tensor.copy_(first.state().at(key));
  train(second, 3, steps);
  for (const auto& [key, parameter] : whole.trained())
    EXPECT_TRUE(at::equal(parameter, second.trained().at(key))) << key;
}

INSTANTIATE_TEST_SUITE_P(All, Reference,
                         ::testing::Values("adamw", "sgd", "sgd-momentum", "lion", "adafactor",
                                           "adafactor-scaled"));

TEST(Optimizer, AdafactorKeepsRowsAndColumns) {
  TrainConfig config;
  config.optimizer = "adafactor";
  Optimizer optimizer({{"m", at::zeros({4, 30, 20}).requires_grad_(true)}}, config);
  EXPECT_EQ(optimizer.state().at("exp_avg_sq_row.m").sizes(), (std::vector<int64_t>{4, 30}));
  EXPECT_EQ(optimizer.state().at("exp_avg_sq_col.m").sizes(), (std::vector<int64_t>{4, 20}));
}

TEST(Optimizer, HalvesAreRoundedByChanceAroundTheSameMean) {
  for (const char* name : {"adamw", "sgd", "lion", "adafactor"}) {
    TrainConfig config;
    config.optimizer = name;
    config.max_grad_norm = 0;
    const int64_t n = 70000;  // more than two pieces
    const auto run = [&](at::ScalarType type) {
      Optimizer optimizer({{"w", at::ones({7, n / 7}).to(type).requires_grad_(true)}}, config);
      for (int64_t step = 1; step <= 3; ++step) {
        for (auto [key, parameter] : optimizer.trained())
          parameter.mutable_grad() = at::linspace(0.5, 1.5, n).view({7, n / 7}).to(type);
        optimizer.step(step, 1e-3, 1);
      }
      return optimizer.trained().at("w").detach().clone();
    };
    const Tensor halves = run(at::kBFloat16), floats = run(at::kFloat);
    EXPECT_TRUE(at::equal(halves, run(at::kBFloat16))) << name << ": draws are a function of seed and step";
    // A step of 1e-3 is a quarter of the distance of two neighbours below 1 (2^-8): rounded to the nearest
    // nothing would move. The mean of 70,000 draws within 2^-8 has a deviation of about 1e-5.
    EXPECT_NEAR(halves.to(at::kFloat).mean().item<double>(), floats.mean().item<double>(), 6e-5) << name;
    EXPECT_LT(floats.mean().item<double>(), 0.9985) << name;
  }
}

}  // namespace
}  // namespace graft
