// Families whose rotary frequencies depend on what is read.
#include <gtest/gtest.h>

#include "graft/nn/recompute.h"
#include "tests/models/tiny.h"

namespace graft::test {
namespace {

/// Families, and what is trained on eight positions.
struct Scaled {
  const char *name, *config;
  bool by_length;
};

const Scaled kScaled[] = {
    {"llama_yarn", R"({"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 4,
        "original_max_position_embeddings": 8}, "max_position_embeddings": 32, )",
     false},
    {"qwen3_dynamic",
     R"({"model_type": "qwen3", "head_dim": 6, "num_key_value_heads": 2, "rope_scaling": {"type": "dynamic", "factor": 4},
        "max_position_embeddings": 8, )",
     true},
    {"phi3_longrope",
     R"({"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1, 2, 3],
        "long_factor": [4, 6, 8]}, "max_position_embeddings": 32, "original_max_position_embeddings": 8, )",
     true},
    {"gpt_neox_dynamic", R"({"model_type": "gpt_neox", "rope_scaling": {"type": "dynamic", "factor": 4},
        "max_position_embeddings": 8, "rotary_pct": 0.67, )",
     true},
};

class RotaryFamilies : public ::testing::TestWithParam<Scaled> {
 protected:
  std::unique_ptr<Model> model = [] {
    static std::string text;
    text = std::string(GetParam().config) +
           R"("vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 40})";
    return tiny_model({.name = GetParam().name, .config = text.c_str()});
  }();
};

/// Blocks that run again in the backward pass have the frequencies of their own pass.
TEST_P(RotaryFamilies, WhatIsReadBetweenChangesNoGradient) {
  const Batch batch = batch_of(*model, {some_text(1, 12), some_text(2, 5)});
  const Batch other = batch_of(*model, {some_text(3, 7)});
  const auto gradient = [&](bool between) {
    const RecomputeGuard guard(9);
    Parameter& weight = *model->named_parameters()[3].second;
    weight.stand_in = weight.base.clone().requires_grad_(true);
    const Tensor hidden = model->run(batch);
    if (between) {
      const at::NoGradGuard no_grad;
      model->run(other);
    }
    (hidden * at::linspace(-1, 1, hidden.numel()).view(hidden.sizes())).sum().backward();
    const Tensor found = weight.stand_in.grad();
    weight.stand_in = Tensor();
    return found;
  };
  EXPECT_TRUE(gradient(true).equal(gradient(false)));
}

/// As in transformers, a sequence beyond the trained length decides for its company.
TEST_P(RotaryFamilies, OnlyALongSequenceChangesItsCompany) {
  const at::NoGradGuard no_grad;
  const Tensor alone = model->run(batch_of(*model, {some_text(1, 6)}));
  const auto beside = [&](int64_t length) {
    return model->run(batch_of(*model, {some_text(1, 6), some_text(2, length)})).slice(0, 0, 6);
  };
  // float32 sums in another order.
  EXPECT_LT(largest_difference(beside(8), alone), 2e-5);
  EXPECT_EQ(largest_difference(beside(9), alone) > 1e-3, GetParam().by_length);
}

TEST_P(RotaryFamilies, ReadsBeyondTheTrainedLength) { EXPECT_EQ(model->info().max_positions, 32); }

INSTANTIATE_TEST_SUITE_P(Families, RotaryFamilies, ::testing::ValuesIn(kScaled),
                         [](const auto& given) { return given.param.name; });

}  // namespace
}  // namespace graft::test
