// Where soft prompts start from, and BitFit's kinds of biases.
#include "graft/peft/soft_prompt.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

const Tiny& tiny(const std::string& name) {
  for (const Tiny& row : tiny_models()) {
    if (row.name == name) return row;
  }
  throw InternalError("test", "no tiny {}", name);
}

Adapter made(const char* config, Model& model, uint64_t seed = 11) {
  const Json json = parse_json(config, "test");
  return tuning_method(json.at("name").get<std::string>()).create(json, model, seed);
}

Tensor word(Model& model, int64_t id) { return model.word_embedding().weight->base[id]; }

TEST(PromptStart, ATextIsRepeatedToThePromptsLength) {
  const auto model = tiny_model(tiny("bert_mlm"));
  const Adapter adapter = made(R"({"name": "prompt_tuning", "num_virtual_tokens": 5,
    "prompt_tuning_init": "TEXT", "prompt_tuning_init_ids": [7, 11, 5]})",
                               *model);
  const Tensor rows = adapter.trained.at("prompt_embeddings");
  for (const auto& [row, id] : {std::pair{0, 7}, {1, 11}, {2, 5}, {3, 7}, {4, 11}})
    EXPECT_TRUE(rows[row].equal(word(*model, id))) << row;
}

TEST(PromptStart, LabelsAreMeansOfTheirPiecesAndWordsFollow) {
  const auto model = tiny_model(tiny("bert_mlm"));
  const Adapter adapter = made(R"({"name": "prompt_tuning", "num_virtual_tokens": 6,
    "prompt_tuning_init": "CLASS_LABEL", "prompt_tuning_init_ids": [[7, 9], [3]]})",
                               *model);
  const Tensor rows = adapter.trained.at("prompt_embeddings").detach();
  EXPECT_LT(largest_difference(rows[0], (word(*model, 7) + word(*model, 9)) / 2), 1e-6);  // rounding
  EXPECT_TRUE(rows[1].equal(word(*model, 3)));
  const Tensor table = model->word_embedding().weight->base;
  for (int64_t i = 2; i < 6; ++i) {
    EXPECT_TRUE((table == rows[i]).all(1).any().item<bool>()) << "row " << i << " is no word's";
  }
  EXPECT_EQ(adapter_file(adapter).config["prompt_tuning_init"], "RANDOM");  // PEFT knows no labels
}

TEST(PromptStart, SampledWordsAreRowsOfTheTable) {
  const auto model = tiny_model(tiny("llama"));
  const Adapter adapter = made(
      R"({"name": "prompt_tuning", "num_virtual_tokens": 6, "prompt_tuning_init": "SAMPLE_VOCAB"})", *model);
  const Tensor rows = adapter.trained.at("prompt_embeddings").detach();
  const Tensor table = model->word_embedding().weight->base;
  for (int64_t i = 0; i < 6; ++i) EXPECT_TRUE((table == rows[i]).all(1).any().item<bool>()) << i;
  EXPECT_FALSE(rows[0].equal(rows[1]) && rows[1].equal(rows[2]));
}

TEST(PromptStart, ATextWithoutTokensIsRefused) {
  const auto model = tiny_model(tiny("llama"));
  EXPECT_THROW(made(R"({"name": "prompt_tuning", "prompt_tuning_init": "TEXT"})", *model), UsageError);
  EXPECT_THROW(
      made(R"({"name": "prompt_tuning", "prompt_tuning_init": "TEXT", "prompt_tuning_init_ids": [61]})",
           *model),
      UsageError);
  EXPECT_THROW(made(R"({"name": "prefix_tuning", "prefix_init_text": "a"})", *model), UsageError);
}

/// A decoder's prefix of real words is the words themselves, read before: also with fewer heads of keys,
/// turned positions and windows.
TEST(PromptStart, APrefixOfWordsIsTheWordsInFront) {
  for (const char* name : {"llama", "gpt2", "qwen2", "gemma2", "gpt_neox", "opt"}) {
    const auto model = tiny_model(tiny(name));
    const Text text = some_text(2, 5);
    Text whole = text;
    whole.ids.insert(whole.ids.begin(), {4, 9, 4});
    const Tensor expected = answer(*model, nullptr, batch_of(*model, {whole})).slice(0, 3);
    const Adapter adapter =
        made(R"({"name": "prefix_tuning", "num_virtual_tokens": 3, "prefix_init_text": "x",
      "prefix_init_ids": [4, 9]})",
             *model);
    attach(adapter, *model);
    const Tensor found = answer(*model, &adapter, batch_of(*model, {text}));
    // The same sums in another order.
    EXPECT_LT(largest_difference(found, expected), 2e-5 * std::max(1.0, expected.abs().max().item<double>()))
        << name;
    EXPECT_FALSE(adapter_file(adapter).config.contains("prefix_init_text"));
  }
}

TEST(PromptStart, AnEncodersPrefixOfWordsIsItsKeysAndValues) {
  const auto model = tiny_model(tiny("bert_mlm"));
  const Adapter adapter = made(R"({"name": "prefix_tuning", "num_virtual_tokens": 2, "prefix_init_text": "x",
    "prefix_init_ids": [4, 9]})",
                               *model);
  Batch batch = batch_of(*model, {{{4, 9}, {}}});
  Trace trace;
  batch.trace = &trace;
  model->run(batch);
  for (int64_t layer = 0; layer < 2; ++layer) {
    const std::string self = fmt::format("bert.encoder.layer.{}.attention.self.", layer);
    const Tensor input = trace.hidden_states[static_cast<size_t>(layer)];
    const Tensor rows = adapter.trained.at("prompt_embeddings");
    int64_t column = 2 * layer * 24;
    for (const char* part : {"key", "value"}) {
      const auto& map = dynamic_cast<Linear&>(*model->find(self + part));
      EXPECT_LT(largest_difference(rows.slice(1, column, column + 24), map.apply(input)), 1e-6)
          << part << layer;
      column += 24;
    }
  }
}

/// Negative ids are rows of the prompt, wherever they stand.
TEST(PseudoTokens, AreRowsOfThePromptInTheirPlaces) {
  for (const char* name : {"bert_mlm", "gpt2", "llama"}) {
    const auto model = tiny_model(tiny(name));
    const Text words{{7, 3, 9, 11, 5}, {}}, other{{2, 8}, {}};
    const Tensor expected = answer(*model, nullptr, batch_of(*model, {words, other}));
    Adapter adapter = made(R"({"name": "prompt_tuning", "num_virtual_tokens": 2, "prompt_tuning_init": "TEXT",
      "prompt_tuning_init_ids": [11, 3]})",
                           *model);
    attach(adapter, *model);
    const Text filled{{7, -2, 9, -1, 5}, {}};
    const Tensor found = answer(*model, &adapter, batch_of(*model, {filled, other}));
    EXPECT_LT(largest_difference(found, expected), 1e-5) << name;  // products of other shapes
    EXPECT_THROW(answer(*model, &adapter, batch_of(*model, {{{7, -3}, {}}})), DataError);
  }
}

TEST(Bitfit, TrainsTheKindsThatAreNamed) {
  const auto model = tiny_model(tiny("bert_seqcls"));
  const auto keys = [&](const char* biases) {
    std::vector<std::string> found;
    const Adapter adapter =
        made(fmt::format(R"({{"name": "bitfit", "biases": {}}})", biases).c_str(), *model);
    for (const auto& [key, tensor] : adapter.trained) {
      if (key.find("layer.1.") != std::string::npos) found.push_back(key.substr(key.find("layer.1.") + 8));
    }
    EXPECT_TRUE(adapter.trained.contains("classifier.weight"));
    EXPECT_TRUE(adapter.trained.contains("bert.pooler.dense.bias"));
    EXPECT_FALSE(adapter.trained.contains("bert.pooler.dense.weight"));
    return found;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(keys(R"(["query", "value"])"), (Names{"attention.self.query.bias", "attention.self.value.bias"}));
  EXPECT_EQ(keys(R"(["output"])"), (Names{"output.dense.bias"}));
  EXPECT_EQ(keys(R"(["intermediate", "attention_output"])"),
            (Names{"attention.output.dense.bias", "intermediate.dense.bias"}));
  EXPECT_EQ(keys(R"(["layernorm"])"), (Names{"attention.output.LayerNorm.bias", "output.LayerNorm.bias"}));
  EXPECT_EQ(keys(R"(["output_layernorm"])"), (Names{"output.LayerNorm.bias"}));
}

std::string error_of(const char* config, Model& model) {
  return message_of<UsageError>([&] { made(config, model); });
}

TEST(Bitfit, SaysWhatAModelDoesNotHave) {
  const auto llama = tiny_model(tiny("llama")), t5 = tiny_model(tiny("t5")),
             bert = tiny_model(tiny("bert_mlm"));
  for (Model* model : {llama.get(), t5.get()}) {
    EXPECT_NE(error_of(R"({"name": "bitfit"})", *model).find("add_biases"), std::string::npos);
  }
  const std::string error = error_of(R"({"name": "bitfit", "biases": ["qeury"]})", *bert);
  EXPECT_NE(error.find("query"), std::string::npos) << error;
}

TEST(Bitfit, AddedBiasesAreInThePlainFileUnderTheMapsNames) {
  const auto model = tiny_model(tiny("t5"));
  const Adapter adapter =
      made(R"({"name": "bitfit", "add_biases": true, "biases": ["query", "output"]})", *model);
  const AdapterFile file = adapter_file(adapter);
  EXPECT_TRUE(file.tensors.contains("encoder.block.0.layer.0.SelfAttention.q.bias"));
  EXPECT_TRUE(file.tensors.contains("decoder.block.2.layer.2.DenseReluDense.wo.bias"));
  EXPECT_EQ(file.tensors.size(), 2u * 2 + 3 * 2 + 3);  // q and wo of both stacks, cross-attention's q
}

}  // namespace
}  // namespace graft::test
