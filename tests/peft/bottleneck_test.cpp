#include "graft/peft/bottleneck.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/peft/bottleneck_build.h"
#include "graft/peft/bottleneck_layer.h"
#include "graft/peft/phm_projection.h"
#include "graft/peft/sublayer_places.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

const Tiny& tiny(const std::string& name) {
  for (const Tiny& one : tiny_models()) {
    if (one.name == name) return one;
  }
  throw InternalError("test", "no tiny model {}", name);
}

Adapter made(const Json& config, Model& model) {
  return tuning_method(config.at("name").get<std::string>()).create(config, model, 3);
}

/// Parameters of the adapters alone.
int64_t adapter_parameters(const Adapter& adapter) {
  int64_t count = 0;
  for (const auto& [key, tensor] : adapter.trained) {
    const bool own =
        key.find(".adapters.") != std::string::npos || key.find("shared_parameters.") != std::string::npos;
    if (own) count += tensor.numel();
  }
  return count;
}

int64_t formula(int64_t hidden, int64_t size) { return 2 * hidden * size + size + hidden; }

TEST(Bottleneck, TheCountEqualsTheFormula) {
  const auto bert = tiny_model(tiny("bert_seqcls"));
  EXPECT_EQ(adapter_parameters(made({{"name", "houlsby"}, {"reduction_factor", 6}}, *bert)),
            4 * formula(24, 4));
  EXPECT_EQ(adapter_parameters(made({{"name", "pfeiffer"}, {"bottleneck_size", 7}}, *bert)),
            2 * formula(24, 7));
  EXPECT_EQ(adapter_parameters(made({{"name", "adapterdrop"}, {"reduction_factor", 6}}, *bert)),
            formula(24, 4));
  EXPECT_EQ(adapter_parameters(made({{"name", "par_bn"}}, *bert)), 2 * formula(24, 12));
  // n³ of the rule; of each map n·(in/n + out/n) and its biases.
  const int64_t maps = 2 * 4 * (24 / 4 + 8 / 4) + 8 + 24;
  EXPECT_EQ(adapter_parameters(made({{"name", "compacter"}, {"reduction_factor", 3}}, *bert)), 4 * maps + 64);
  EXPECT_EQ(adapter_parameters(made({{"name", "compacter++"}, {"reduction_factor", 3}}, *bert)),
            2 * maps + 64);
  // T5: self-attention and feed-forward part of two encoder and three decoder layers; cross-attention if
  // asked.
  const auto t5 = tiny_model(tiny("t5"));
  EXPECT_EQ(adapter_parameters(made({{"name", "double_seq_bn"}, {"reduction_factor", 6}}, *t5)),
            10 * formula(24, 4));
  EXPECT_EQ(
      adapter_parameters(made({{"name", "houlsby"}, {"reduction_factor", 6}, {"cross_adapter", true}}, *t5)),
      13 * formula(24, 4));
}

TEST(Bottleneck, SizesAreFloorDivisions) {
  EXPECT_EQ(bottleneck_size(768, 16), 48);
  EXPECT_EQ(bottleneck_size(768, 7.5), 102);
  EXPECT_EQ(bottleneck_size(24, 100), 1);
  const auto bert = tiny_model(tiny("bert_seqcls"));
  for (int64_t size = 1; size <= 24; ++size) {
    const Adapter adapter = made({{"name", "pfeiffer"}, {"bottleneck_size", size}}, *bert);
    const double factor = adapter.config["config"]["reduction_factor"].get<double>();
    EXPECT_EQ(bottleneck_size(24, factor), size);
  }
}

TEST(Bottleneck, KeysAreAdapterHubs) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"bert_seqcls", "bert.encoder.layer.1.attention.output.adapters.mine.adapter_down.0.weight"},
      {"gpt2", "transformer.h.1.attention_adapters.adapters.mine.adapter_up.bias"},
      {"llama", "model.layers.0.output_adapters.adapters.mine.adapter_up.weight"},
      {"t5", "decoder.block.2.layer.2.adapters.mine.adapter_down.0.bias"},
      {"albert",
       "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.attention_adapters.adapters.mine."
       "adapter_up.weight"}};
  for (const auto& [name, key] : rows) {
    const auto model = tiny_model(tiny(name));
    const Adapter adapter = made({{"name", "houlsby"}, {"adapter_name", "mine"}}, *model);
    EXPECT_TRUE(adapter.trained.count(key)) << key;
    EXPECT_EQ(adapter.config["name"], "mine");
  }
}

/// The sum over i of Kronecker products, entry by entry.
TEST(Bottleneck, PhmEqualsItsDefinition) {
  const int64_t n = 2, in = 3, out = 2;
  const Tensor rule = at::sin(at::arange(n * n * n, at::kDouble)).view({n, n, n});
  const Tensor weight = at::cos(at::arange(n * in * out, at::kDouble)).view({n, in, out});
  const Tensor bias = at::arange(n * out, at::kDouble),
               x = at::arange(2 * n * in, at::kDouble).view({2, n * in});
  Tensor map = at::zeros({n * in, n * out}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) map += at::kron(rule[i], weight[i]);
  const PhmProjection phm({rule, {}}, {weight, {}}, bias);
  EXPECT_LT(largest_difference(phm.forward(x), at::matmul(x, map) + bias), 1e-12);
}

class Drop : public ::testing::Test {
 protected:
  std::unique_ptr<Model> model_ = tiny_model(tiny("bert_seqcls"));
  Batch batch() const { return batch_of(*model_, {some_text(1, 6), some_text(2, 3)}); }
  Tensor answer_of(const Adapter& adapter) {
    attach(adapter, *model_);
    return answer(*model_, &adapter, batch());
  }
};

TEST_F(Drop, AtInferenceEqualsAnAdapterWithoutThoseLayers) {
  const Json config = {{"name", "houlsby"}, {"reduction_factor", 6}};
  Adapter whole = made(config, *model_);
  move_tensors(whole);
  const Tensor full = answer_of(whole);
  Json less = config;
  less["drop_layers"] = 1;
  Adapter upper = made(less, *model_);
  for (auto& [key, tensor] : upper.trained) {
    const at::NoGradGuard no_grad;
    tensor.copy_(whole.trained.at(key));
  }
  const Tensor expected = answer_of(upper);
  drop_adapters(whole, *model_, 1);
  EXPECT_TRUE(answer_of(whole).equal(expected));
  EXPECT_GT(largest_difference(full, expected), 1e-4);
}

TEST_F(Drop, InTrainingDrawsEveryNumberOfLowestLayers) {
  Adapter adapter = made({{"name", "pfeiffer"}, {"reduction_factor", 6}, {"random_drop", 2}}, *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  RandomStream dropout(1, "dropout");
  Batch rows = batch();
  rows.dropout = &dropout;
  const std::string lower = "bert.encoder.layer.0.output.adapters.default.adapter_up.bias";
  const std::string upper = "bert.encoder.layer.1.output.adapters.default.adapter_up.bias";
  int64_t counts[3] = {};
  constexpr int kPasses = 60;
  for (int i = 0; i < kPasses; ++i) {
    answer(*model_, &adapter, rows).sum().backward();
    const bool has_lower = adapter.trained.at(lower).grad().defined();
    const bool has_upper = adapter.trained.at(upper).grad().defined();
    ASSERT_TRUE(has_upper || !has_lower);
    ++counts[has_lower ? 0 : has_upper ? 1 : 2];
    for (auto [key, tensor] : adapter.trained) tensor.mutable_grad().reset();
  }
  // 20 expected of each; below 8 once in ten thousand.
  for (const int64_t count : counts) EXPECT_GE(count, 8);
}

TEST_F(Drop, RefusesAnAdapterWithoutBottlenecks) {
  Adapter lora = made({{"name", "lora"}}, *model_);
  EXPECT_THROW(drop_adapters(lora, *model_, 1), UsageError);
}

TEST(Bottleneck, RefusesWhatIsNotImplementedByName) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  for (const auto& [key, value] : std::map<std::string, Json>{{"use_gating", true},
                                                              {"original_ln_after", false},
                                                              {"stochastic_depth", 0.1},
                                                              {"inv_adapter", "nice"},
                                                              {"non_linearity", "leakyrelu"},
                                                              {"reduction_factor", 0},
                                                              {"scaling", "much"},
                                                              {"random_drop", -1}}) {
    const std::string message = message_of<Error>([&] {
      made({{"name", "pfeiffer"}, {key, value}}, *model);
    });
    EXPECT_NE(message.find(key), std::string::npos) << key << ": " << message;
  }
  const std::string divided = message_of<Error>([&] {
    made({{"name", "compacter"}, {"reduction_factor", 4}}, *model);
  });
  EXPECT_NE(divided.find("phm_dim"), std::string::npos) << divided;
  EXPECT_NE(message_of<Error>([&] {
              made({{"name", "pfeiffer"}, {"drop_layers", 2}}, *model);
            }).find("leave_out"),
            std::string::npos);
}

TEST(Bottleneck, ReadsTheKeysOfAnotherClassAndAFlexibleHead) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  Adapter adapter = made({{"name", "pfeiffer"}, {"reduction_factor", 6}}, *model);
  move_tensors(adapter);
  attach(adapter, *model);
  const Batch batch = batch_of(*model, {some_text(1, 6), some_text(2, 3)});
  const Tensor dense = at::sin(at::arange(24 * 24, at::kFloat)).view({24, 24}), bias = at::zeros({24});
  TensorMap file, head = {{"heads.task.1.weight", dense}, {"heads.task.1.bias", bias}};
  for (const auto& [key, tensor] : adapter.trained) {
    if (key.starts_with("bert.encoder.")) {
      std::string renamed = key.substr(5);
      renamed.replace(renamed.find(".adapters."), 10, ".layer_text_task_adapters.");
      file[renamed] = tensor.detach();
    } else {
      head["heads.task.4" + key.substr(key.rfind('.'))] = tensor.detach();
    }
  }
  const TemporaryFolder folder;
  write_safetensors(folder / "adapter.safetensors", file, Json::object());
  write_safetensors(folder / "model_head.safetensors", head, Json::object());
  Json config = adapter.config;
  config.erase("graft");
  write_file(folder / "adapter_config.json", config.dump());
  write_file(folder / "head_config.json",
             R"({"config": {"head_type": "classification", "layers": 2, "activation_function": "tanh"}})");
  const Adapter read = read_adapter(folder.path(), *model);
  adapter.stand_ins["bert.pooler.dense.weight"] = dense;
  adapter.stand_ins["bert.pooler.dense.bias"] = bias;
  attach(adapter, *model);
  const Tensor expected = answer(*model, &adapter, batch);
  attach(read, *model);
  EXPECT_TRUE(answer(*model, &read, batch).equal(expected));
  write_file(folder / "head_config.json", R"({"config": {"head_type": "classification", "layers": 3}})");
  EXPECT_NE(message_of<Error>([&] { read_adapter(folder.path(), *model); }).find("3 layers"),
            std::string::npos);
}

TEST(Bottleneck, MergeSaysWhyNot) {
  const auto model = tiny_model(tiny("llama"));
  const Adapter adapter = made({{"name", "parallel"}}, *model);
  EXPECT_NE(message_of<Error>([&] { merge(adapter, *model); }).find("no merged form"), std::string::npos);
}

}  // namespace
}  // namespace graft::test
