// PEFT's keys of soft prompts, and their sizes.
#pragma once
#include <string>

#include "graft/peft/builder.h"

namespace graft {

struct PromptConfig : CommonConfig {
  int64_t num_virtual_tokens = 20;
  std::optional<int64_t> token_dim, num_transformer_submodules, num_attention_heads, num_layers;
  Json modules_to_save;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    visit("num_virtual_tokens", self.num_virtual_tokens, "length of the prompt", at_least<int64_t>(1));
    visit("token_dim", self.token_dim, "width of a virtual token; set by the model");
    visit("num_transformer_submodules", self.num_transformer_submodules,
          "2 for encoder-decoders; set by the model");
    visit("num_attention_heads", self.num_attention_heads, "set by the model");
    visit("num_layers", self.num_layers, "set by the model");
    visit("modules_to_save", self.modules_to_save, "modules trained whole beside the prompt");
  }
};

/// What PEFT fills in from the base model. Widths of keys and values where `prefix`.
struct PromptSizes {
  int64_t token_dim, submodules, heads, layers;
  static PromptSizes of(const Model& model, bool prefix);
};

/// Fills a fresh config's sizes in, or checks those of a file's. Errors: UsageError for a prompt of another
/// width or depth.
void settle_sizes(AdapterBuilder& builder, PromptConfig& config, const PromptSizes& sizes);

/// The heads beside a prompt; PEFT lists them twice, and saves them without `model.`.
void train_prompt_heads(AdapterBuilder& builder, const PromptConfig& config);

}  // namespace graft
