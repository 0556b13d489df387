// Whole runs with soft prompts: what they start from, templates, tags; saved, evaluated again and gone on
// with.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <fstream>

#include "graft/base/error.h"
#include "graft/io/safetensors.h"
#include "graft/session/eval_run.h"
#include "graft/session/train_run.h"
#include "tests/session/tiny_run.h"

namespace graft {
namespace {

using test::TinyRun;
using test::train;

/// The run's own evaluation says what training said of its best state.
void expect_equal_metrics(const TinyRun& tiny, const RunReport& trained) {
  const RunReport again = eval_run({.target = tiny.output()});
  for (const auto& [name, value] : trained.document["metrics"].items()) {
    // A prompt that came out of a network is saved as what came out: equal but for the sum's order.
    EXPECT_NEAR(again.document["metrics"][name].get<double>(), value.get<double>(), 1e-5) << name;
  }
}

Json with_method(Json document, const Json& method) {
  document["method"] = method;
  return document;
}

const std::vector<Json>& prompt_methods() {
  static const std::vector<Json> rows{
      {{"name", "prompt_tuning"},
       {"num_virtual_tokens", 3},
       {"prompt_tuning_init", "TEXT"},
       {"prompt_tuning_init_text", "a b"}},
      {{"name", "prompt_tuning"}, {"num_virtual_tokens", 3}, {"prompt_tuning_init", "SAMPLE_VOCAB"}},
      {{"name", "prompt_tuning"},
       {"num_virtual_tokens", 3},
       {"prompt_tuning_init", "CLASS_LABEL"},
       {"prompt_tuning_init_text", {"c", "d e"}}},
      {{"name", "p_tuning"}, {"num_virtual_tokens", 2}, {"encoder_reparameterization_type", "LSTM"}},
      {{"name", "prefix_tuning"}, {"num_virtual_tokens", 3}, {"prefix_init_text", "a b"}},
      {{"name", "prefix_tuning"}, {"num_virtual_tokens", 3}, {"prefix_projection", true}},
      {{"name", "multitask_prompt_tuning"}, {"num_virtual_tokens", 3}, {"num_tasks", 2}},
  };
  return rows;
}

TEST(PromptRun, EveryStartTrainsAndEvaluatesTheSameAgain) {
  for (const Json& method : prompt_methods()) {
    SCOPED_TRACE(method.dump());
    const TinyRun tiny;
    expect_equal_metrics(tiny, train(with_method(tiny.classification({"train.epochs=1"}), method)));
    const Json saved = read_json(tiny.output() / "adapter_config.json");
    EXPECT_FALSE(saved.contains("prefix_init_text"));
    EXPECT_FALSE(saved.contains("prompt_tuning_init_ids"));
    EXPECT_NE(saved.value("prompt_tuning_init", ""), "CLASS_LABEL");
    const Json recipe = read_yaml(tiny.output() / "recipe.yaml");
    for (const auto& [key, value] : method.items()) EXPECT_EQ(recipe["method"][key], value) << key;
  }
}

TEST(PromptRun, ATextsTokensAreThoseOfPeftSpecialOnesToo) {
  const TinyRun tiny;
  Json document =
      with_method(tiny.classification({"train.steps=1", "train.learning_rate=0"}), prompt_methods()[0]);
  document["method"]["num_virtual_tokens"] = 5;
  train(document);
  const Tensor rows = read_safetensors(tiny.output() / "adapter_model.safetensors").at("prompt_embeddings");
  EXPECT_TRUE(rows[0].equal(rows[4]));  // [CLS] a b [SEP] [CLS]
  EXPECT_FALSE(rows[0].equal(rows[1]));
  EXPECT_EQ(read_json(tiny.output() / "adapter_config.json")["prompt_tuning_init_text"], "a b");
}

Json fill_in(const TinyRun& tiny, const std::string& model, const std::string& text) {
  Json document = tiny.classification({"train.epochs=2"});
  document["model"]["from_scratch"]["config"] = tiny.at(model);
  document["method"] = {{"name", "p_tuning"}, {"encoder_hidden_size", 8}};
  document["task"] = {{"name", "prompt_classification"},
                      {"template", text},
                      {"verbalizer", {{"no", "a"}, {"yes", {"b", "c"}}}}};
  return document;
}

TEST(PromptRun, PTuningFillsATemplateOfBothKindsOfModels) {
  for (const auto& [model, text] : {std::pair{"encoder.json", "{soft:2}{text} d {soft}{mask}{soft:\"e f\"}"},
                                    {"decoder.json", "{soft:2}{text} d {soft:3}{mask}"}}) {
    for (const char* encoder : {"MLP", "LSTM"}) {
      const TinyRun tiny;
      Json document = fill_in(tiny, model, text);
      if (std::string(model) == "decoder.json") document["task"]["head"] = "causal_lm";
      document["method"]["encoder_reparameterization_type"] = encoder;
      expect_equal_metrics(tiny, train(document));
      const Json saved = read_json(tiny.output() / "adapter_config.json");
      EXPECT_EQ(saved["num_virtual_tokens"], 5);
      EXPECT_EQ(saved["peft_type"], "P_TUNING");
    }
  }
}

TEST(PromptRun, HardPromptsTrainWithAnyMethodOrNone) {
  for (const char* method : {"lora", "bitfit", "full", "prompt_tuning"}) {
    const TinyRun tiny;
    Json document = fill_in(tiny, "encoder.json", "{text} d {mask} e");
    document["method"] = {{"name", method}};
    if (std::string(method) == "prompt_tuning") document["method"]["num_virtual_tokens"] = 2;
    expect_equal_metrics(tiny, train(document));
  }
  const TinyRun tiny;
  Json document = fill_in(tiny, "encoder.json", "{text} d {mask} e");
  document["method"] = "none";
  EXPECT_THROW(train(document), UsageError);
  const RunReport report = eval_run({.target = tiny.recipe_file(document)});
  EXPECT_TRUE(report.document["metrics"].contains("accuracy"));
}

TEST(PromptRun, PseudoTokensNeedAPrompt) {
  const TinyRun tiny;
  Json document = fill_in(tiny, "encoder.json", "{soft}{text} {mask}");
  document["method"] = "lora";
  EXPECT_THROW(train(document), UsageError);
  document["method"] = {{"name", "p_tuning"}, {"num_virtual_tokens", 7}};
  EXPECT_THROW(train(document), UsageError);
}

/// P-tuning v2: a prefix at every layer, a head on every word.
TEST(PromptRun, APrefixLearnsTags) {
  const TinyRun tiny;
  std::string text;
  RandomStream random(4, "tags");
  for (int i = 0; i < 60; ++i) {
    for (uint64_t word = 0; word < 3 + random.below(4); ++word) {
      const char name = static_cast<char>('a' + random.below(16));
      text += fmt::format("{}\tx\t{}\n", name, name < 'e' ? "B-X" : "O");
    }
    text += "\n";
  }
  write_file(tiny.folder() / "tags.conll", text);
  for (const bool projection : {false, true}) {
    Json document = tiny.classification({"train.epochs=15", "train.learning_rate=3e-2"});
    document["output"] = tiny.at(projection ? "projected" : "run");
    document["method"] = {
        {"name", "prefix_tuning"}, {"num_virtual_tokens", 4}, {"prefix_projection", projection}};
    document["task"] = "token_classification";
    document["data"] = {{"train", tiny.at("tags.conll")}, {"validation", tiny.at("tags.conll")}};
    const RunReport report = train(document);
    EXPECT_GT(report.document["metrics"]["f1"].get<double>(), 0.9);
    if (!projection) expect_equal_metrics(tiny, report);
  }
}

}  // namespace
}  // namespace graft
