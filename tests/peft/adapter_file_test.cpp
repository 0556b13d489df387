// PEFT's files: what is kept, what is refused, and in which words.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/peft/adapter.h"
#include "tests/models/tiny.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

const Tiny& tiny(const std::string& name) {
  for (const Tiny& one : tiny_models()) {
    if (one.name == name) return one;
  }
  throw std::logic_error("no tiny model " + name);
}

/// An adapter folder of a LLaMA with LoRA, to be spoilt.
class AdapterFile : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = tiny_model(tiny("llama"));
    const Json config = {{"name", "lora"}, {"r", 2}, {"lora_alpha", 6}};
    write_adapter(folder_.path(), tuning_method("lora").create(config, *model_, 1), *model_);
  }
  Json config() const { return read_json(folder_ / "adapter_config.json"); }
  void set_config(const Json& config) const { folder_.file("adapter_config.json", config.dump(2)); }
  TensorMap tensors() const {
    TensorMap out;
    for (const auto& [key, tensor] : read_safetensors(folder_ / "adapter_model.safetensors"))
      out[key] = tensor.clone();
    return out;
  }
  void set_tensors(const TensorMap& tensors) const {
    write_safetensors(folder_ / "adapter_model.safetensors", tensors);
  }
  std::string complaint() {
    return message_of<DataError>([&] { read_adapter(folder_.path(), *model_); });
  }
  mutable TemporaryFolder folder_;
  std::unique_ptr<Model> model_;
};

const std::string kQuery = "base_model.model.model.layers.0.self_attn.q_proj.";

TEST_F(AdapterFile, HoldsPeftsKeysInOrder) {
  std::string last;
  const Json written = config();
  for (const auto& [key, value] : written.items()) {
    EXPECT_LT(last, key);
    last = key;
  }
  EXPECT_EQ(config()["peft_type"], "LORA");
  EXPECT_EQ(config()["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config()["inference_mode"], true);
  EXPECT_EQ(config()["lora_alpha"].dump(), "6");
  EXPECT_EQ(config()["target_modules"], Json({"q_proj", "v_proj"}));
  EXPECT_TRUE(tensors().count(kQuery + "lora_A.weight"));
}

TEST_F(AdapterFile, KeepsKeysItDoesNotKnow) {
  Json changed = config();
  changed["a_newer_key"] = {{"x", 1}};
  set_config(changed);
  const TemporaryFolder again;
  write_adapter(again.path(), read_adapter(folder_.path(), *model_), *model_);
  EXPECT_EQ(read_json(again / "adapter_config.json")["a_newer_key"], Json({{"x", 1}}));
}

TEST_F(AdapterFile, RefusesASettingThatItDoesNotImplement) {
  Json changed = config();
  changed["layer_replication"] = Json::array({Json::array({0, 2})});
  set_config(changed);
  EXPECT_NE(complaint().find("layer_replication"), std::string::npos);
}

TEST_F(AdapterFile, NamesAllProblemsAtOnce) {
  TensorMap changed = tensors();
  changed[kQuery + "lora_A.weight"] = at::zeros({3, 24});
  changed.erase(kQuery + "lora_B.weight");
  changed["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = at::zeros({2, 24});
  set_tensors(changed);
  const std::string message = complaint();
  EXPECT_NE(message.find("lora_A.weight is [3, 24], expected [2, 24]"), std::string::npos) << message;
  EXPECT_NE(message.find("lora_B.weight is missing"), std::string::npos) << message;
  EXPECT_NE(message.find("layers.9"), std::string::npos) << message;
}

TEST_F(AdapterFile, RefusesAnUnknownMethodAndAPickle) {
  Json changed = config();
  changed["peft_type"] = "LILY";
  set_config(changed);
  EXPECT_NE(complaint().find("\"LILY\""), std::string::npos);
  changed["peft_type"] = "LORA";
  set_config(changed);
  std::filesystem::remove(folder_ / "adapter_model.safetensors");
  folder_.file("adapter_model.bin", "x");
  EXPECT_NE(complaint().find("torch.save"), std::string::npos);
}

TEST_F(AdapterFile, TheFirstPatternCountsAlsoAfterSaving) {
  // "v_proj" sorts behind ".*": the order of a pattern's keys is a part of its meaning.
  const Json given = {{"name", "lora"}, {"r", 2}, {"rank_pattern", {{"v_proj", 3}, {".*_proj", 5}}}};
  const TemporaryFolder folder;
  write_adapter(folder.path(), tuning_method("lora").create(given, *model_, 1), *model_);
  const Adapter read = read_adapter(folder.path(), *model_);
  EXPECT_EQ(read.trained.at("base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight").size(0), 3);
  EXPECT_EQ(read.trained.at(kQuery + "lora_A.weight").size(0), 5);
}

TEST_F(AdapterFile, AMinimalConfigTakesPeftsDefaults) {
  set_config({{"peft_type", "LORA"},
              {"target_modules", {"q_proj", "v_proj"}},
              {"r", 2},
              {"task_type", "CAUSAL_LM"}});
  const Adapter read = read_adapter(folder_.path(), *model_);
  EXPECT_EQ(read.trained.size(), 8u);
}

TEST(Recipe, AnUnknownKeyIsAnErrorWithTheNearest) {
  const auto model = tiny_model(tiny("llama"));
  const std::string message = message_of<UsageError>([&] {
    tuning_method("lora").create({{"lora_alfa", 3}}, *model, 1);
  });
  EXPECT_NE(message.find("lora_alpha"), std::string::npos) << message;
  EXPECT_NE(message_of<UsageError>([&] { tuning_method("lorra"); }).find("lora"), std::string::npos);
}

TEST(Recipe, AnUnknownTargetIsAnErrorWithTheNearest) {
  const auto model = tiny_model(tiny("llama"));
  const Json config = {{"target_modules", {"q_pro"}}};
  EXPECT_NE(message_of<UsageError>([&] { tuning_method("lora").create(config, *model, 1); }).find("q_proj"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::test
