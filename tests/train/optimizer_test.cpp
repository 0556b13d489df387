#include "graft/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"

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

TEST(Optimizer, OnlyTrainedFloatTensorsAreTaken) {
  EXPECT_THROW(Optimizer({{"a", at::zeros({2})}}, {}), InternalError);
  EXPECT_THROW(Optimizer({{"a", at::zeros({2}, at::kDouble).requires_grad_(true)}}, {}), InternalError);
}

}  // namespace
}  // namespace graft
