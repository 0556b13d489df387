#include "graft/peft/prompt_config.h"

#include "graft/base/error.h"

namespace graft {
namespace {

void settle(AdapterBuilder& builder, std::optional<int64_t>& value, const char* name, int64_t expected) {
  if (!value) value = expected;
  if (*value != expected) {
    throw UsageError(name, "{}, expected this model's {}", *value, expected);
  }
  builder.config()[name] = expected;
}

}  // namespace

PromptSizes PromptSizes::of(const Model& model, bool prefix) {
  const ModelInfo& info = model.info();
  // Words may be narrower than the layers (ALBERT, ELECTRA); PEFT then has no prompts in front of them.
  const int64_t width = prefix ? info.hidden_size : const_cast<Model&>(model).word_embedding().dim();
  // PEFT counts an encoder-decoder's encoder; a prefix lies in front of the decoder's layers.
  const int64_t layers = prefix || info.num_encoder_layers == 0 ? info.num_layers : info.num_encoder_layers;
  PromptSizes sizes{width, info.is_encoder_decoder ? 2 : 1, info.num_heads, layers};
  // PEFT looks for this key, not for whether fewer heads hold keys.
  if (prefix && model.config.contains("num_key_value_heads")) {
    sizes.token_dim = info.head_dim * info.num_kv_heads;
    sizes.heads = info.num_kv_heads;
  }
  return sizes;
}

void settle_sizes(AdapterBuilder& builder, PromptConfig& config, const PromptSizes& sizes) {
  settle(builder, config.token_dim, "token_dim", sizes.token_dim);
  settle(builder, config.num_transformer_submodules, "num_transformer_submodules", sizes.submodules);
  settle(builder, config.num_attention_heads, "num_attention_heads", sizes.heads);
  settle(builder, config.num_layers, "num_layers", sizes.layers);
}

void train_prompt_heads(AdapterBuilder& builder, const PromptConfig& config) {
  builder.set_prefix("base_model.");
  const bool listed = config.modules_to_save.is_array() && builder.from_file();
  std::vector<std::string> names = saved_modules(config.modules_to_save, config.task_type);
  builder.train_saved_modules(names);
  if (listed) {
    builder.config()["modules_to_save"] = config.modules_to_save;
  } else if (!names.empty()) {
    const std::vector<std::string> once = names;
    names.insert(names.end(), once.begin(), once.end());
    builder.config()["modules_to_save"] = names;
  }
}

}  // namespace graft
