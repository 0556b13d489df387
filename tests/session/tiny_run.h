// A whole training run of seconds: a drawn model, a tokenizer of words, a few rows; all in a folder of its
// own.
#pragma once
#include <fstream>
#include <string>

#include "graft/base/file.h"
#include "graft/base/json.h"
#include "graft/base/random.h"
#include "graft/session/recipe.h"
#include "graft/session/train_run.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/train/fakes.h"

namespace graft::test {

inline RunReport train(const Json& document, TrainRunOptions options = {}) {
  return train_run(read_recipe(document), options);
}

class TinyRun {
 public:
  TinyRun() : words_("a b c d e f g h i j k l m n o p") {
    write("encoder.json", {{"model_type", "bert"},
                           {"architectures", {"BertModel"}},
                           {"hidden_size", 16},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 2},
                           {"intermediate_size", 32},
                           {"vocab_size", 21},
                           {"max_position_embeddings", 32},
                           {"type_vocab_size", 2},
                           {"hidden_dropout_prob", 0.1},
                           {"attention_probs_dropout_prob", 0.1}});
    write("decoder.json", {{"model_type", "llama"},
                           {"architectures", {"LlamaForCausalLM"}},
                           {"hidden_size", 16},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 2},
                           {"intermediate_size", 32},
                           {"vocab_size", 21},
                           {"max_position_embeddings", 32}});
    rows("train.jsonl", 40, 1);
    rows("validation.jsonl", 12, 2);
    texts("train.txt", 30, 3);
  }

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path output() const { return folder() / "run"; }

  /// Classification: whether a word occurs twice. `changes`: key=value.
  Json classification(const std::vector<std::string>& changes = {}) const {
    Json document = {
        {"model", {{"from_scratch", scratch("encoder.json")}}},
        {"method",
         {{"name", "lora"}, {"r", 2}, {"lora_dropout", 0.1}, {"target_modules", {"query", "value"}}}},
        {"task", {{"name", "sequence_classification"}}},
        {"data", {{"train", at("train.jsonl")}, {"validation", at("validation.jsonl")}}},
        {"train", {{"epochs", 3}, {"batch_size", 4}, {"learning_rate", 1e-2}, {"threads", 1}}},
        {"output", output().string()}};
    for (const std::string& change : changes) apply_override(document, change);
    return document;
  }
  /// Full training of a decoder on short documents.
  Json language_model(const std::vector<std::string>& changes = {}) const {
    Json document = {{"model", {{"from_scratch", scratch("decoder.json")}}},
                     {"method", "full"},
                     {"task", "causal_lm"},
                     {"data", {{"train", at("train.txt")}}},
                     {"train", {{"epochs", 2}, {"batch_tokens", 32}, {"threads", 1}}},
                     {"output", output().string()}};
    for (const std::string& change : changes) apply_override(document, change);
    return document;
  }
  std::string at(const std::string& name) const { return (folder() / name).string(); }
  /// As a file, for programs.
  std::string recipe_file(const Json& document) const {
    write_file(folder() / "recipe.yaml", to_yaml(document));
    return at("recipe.yaml");
  }

 private:
  Json scratch(const std::string& config) const {
    return {{"config", at(config)}, {"tokenizer", words_.folder().string()}};
  }
  void write(const std::string& name, const Json& document) const {
    write_file(folder() / name, document.dump());
  }
  static std::string sentence(RandomStream& random, bool& twice) {
    std::string text, seen;
    twice = false;
    const uint64_t length = 3 + random.below(5);
    for (uint64_t i = 0; i < length; ++i) {
      const char word = static_cast<char>('a' + random.below(16));
      twice = twice || seen.find(word) != std::string::npos;
      seen += word;
      text += std::string(text.empty() ? "" : " ") + word;
    }
    return text;
  }
  void rows(const std::string& name, int count, uint64_t seed) const {
    RandomStream random(seed, "rows");
    std::string text;
    for (int i = 0; i < count; ++i) {
      bool twice = false;
      const std::string words = sentence(random, twice);
      text += Json{{"text", words}, {"label", twice ? "yes" : "no"}}.dump() + "\n";
    }
    write_file(folder() / name, text);
  }
  void texts(const std::string& name, int count, uint64_t seed) const {
    RandomStream random(seed, "texts");
    std::string text;
    for (int i = 0; i < count; ++i) {
      bool twice = false;
      text += sentence(random, twice) + "\n<|endoftext|>\n";
    }
    write_file(folder() / name, text);
  }

  TestFolder folder_;
  TinyTokenizer words_;
};

}  // namespace graft::test
