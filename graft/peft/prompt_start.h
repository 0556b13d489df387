// Where a prompt starts from: random rows, words of the vocabulary, labels, or a text's keys and values.
#pragma once
#include <string>
#include <vector>

#include "graft/peft/prompt_config.h"

namespace graft {

/// The tokens that each row of a prompt starts as; the row is their embeddings' mean. Empty: a random row.
using StartTokens = std::vector<std::vector<int64_t>>;

/// PEFT's keys for where a prompt starts from, and those of graft beside them.
struct PromptInitConfig : PromptConfig {
  std::string prompt_tuning_init = "RANDOM";
  Json prompt_tuning_init_text, tokenizer_name_or_path, tokenizer_kwargs;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PromptConfig::fields(self, visit);
    visit("prompt_tuning_init", self.prompt_tuning_init,
          "RANDOM, TEXT, SAMPLE_VOCAB: rows of random words, or CLASS_LABEL: labels, then random words",
          one_of({"RANDOM", "TEXT", "SAMPLE_VOCAB", "CLASS_LABEL", "AVERAGE_SOURCE_TASKS",
                  "EXACT_SOURCE_TASK", "ONLY_SOURCE_SHARED"}));
    visit("prompt_tuning_init_text", self.prompt_tuning_init_text,
          "with TEXT: the words that the prompt starts as");
    visit("tokenizer_name_or_path", self.tokenizer_name_or_path,
          "for PEFT; here the model's own tokenizer is used");
    visit("tokenizer_kwargs", self.tokenizer_kwargs, "for PEFT");
  }
};

/// A recipe's `key`, taken out of it (no file holds it): a list of ids, one a row, or a list of lists.
StartTokens take_start_tokens(ConfigSource& source, const char* key);

/// Help on a method's keys, and on the one that take_start_tokens takes.
template <HasFields Config>
std::vector<FieldHelp> prompt_help(const char* key) {
  std::vector<FieldHelp> rows = method_help<Config>();
  rows.push_back({fmt::format("method.{}", key), "null", "a list",
                  "the rows start as these tokens: an id each, or a list of ids, whose mean counts"});
  return rows;
}

/// The prompt's initial rows [v · submodules, d]. A text's tokens are repeated or cut to that length; labels
/// are followed by random words. Errors: UsageError (TEXT or CLASS_LABEL without tokens; an id that is none).
Tensor initial_prompt(AdapterBuilder& builder, const PromptInitConfig& config, const StartTokens& tokens);

/// One row a start token list of the word embedding (means), drawn N(0, 1) where it is empty. `key` names the
/// stream.
Tensor start_rows(AdapterBuilder& builder, const std::string& key, const StartTokens& tokens);

/// Fills in what PEFT asks for beside a text. Where a prompt starts that only graft knows is not written: for
/// PEFT it started at random.
void settle_start(AdapterBuilder& builder, const PromptInitConfig& config);

/// [v, 2 L heads head_dim]: each layer's keys and values of a text's first v tokens (repeated where it is
/// shorter), as the frozen model computes them. Errors: UsageError for encoder-decoders.
Tensor prefix_of_text(Model& model, const std::vector<int64_t>& ids, int64_t length);

}  // namespace graft
