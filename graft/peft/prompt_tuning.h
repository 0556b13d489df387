// Prompt tuning: trained virtual tokens in front of the input. Source: Lester et al. 2021; files: PEFT's
// PROMPT_TUNING.
#pragma once
#include "graft/peft/adapter.h"
#include "graft/peft/prompt_config.h"

namespace graft {

extern const TuningMethod kPromptTuning;

/// PEFT's keys for where a prompt starts from.
struct PromptInitConfig : PromptConfig {
  std::string prompt_tuning_init = "RANDOM";
  Json prompt_tuning_init_text, tokenizer_name_or_path, tokenizer_kwargs;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PromptConfig::fields(self, visit);
    visit("prompt_tuning_init", self.prompt_tuning_init,
          "RANDOM, TEXT, or SAMPLE_VOCAB: rows of random words",
          one_of({"RANDOM", "TEXT", "SAMPLE_VOCAB", "AVERAGE_SOURCE_TASKS", "EXACT_SOURCE_TASK",
                  "ONLY_SOURCE_SHARED"}));
    visit("prompt_tuning_init_text", self.prompt_tuning_init_text,
          "with TEXT: the words that the prompt starts as");
    visit("tokenizer_name_or_path", self.tokenizer_name_or_path,
          "for PEFT; here the model's own tokenizer is used");
    visit("tokenizer_kwargs", self.tokenizer_kwargs, "for PEFT");
  }
};

/// The prompt's initial rows [v · submodules, d]. `ids`: the text's tokens, repeated or cut to that length
/// (TEXT). Errors: UsageError (TEXT without ids).
Tensor initial_prompt(AdapterBuilder& builder, const PromptInitConfig& config,
                      const std::vector<int64_t>& ids);

/// The recipe's `prompt_tuning_init_ids`, taken out of it: what the text's tokens are (PEFT's file does not
/// hold them).
std::vector<int64_t> take_init_ids(ConfigSource& source);

}  // namespace graft
