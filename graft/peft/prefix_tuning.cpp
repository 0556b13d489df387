#include "graft/peft/prefix_tuning.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/peft/prompt_start.h"
#include "graft/peft/soft_prompt.h"

namespace graft {
namespace {

struct PrefixConfig : PromptConfig {
  std::optional<int64_t> encoder_hidden_size;
  bool prefix_projection = false;
  Json init_weights, prefix_init_text;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PromptConfig::fields(self, visit);
    visit("encoder_hidden_size", self.encoder_hidden_size,
          "width of the projection; null: as wide as keys are");
    visit("prefix_projection", self.prefix_projection,
          "the prefix comes out of a small network while it is trained");
    visit("init_weights", self.init_weights, "zero: the prefix starts as zeros",
          only_values({nullptr, "zero"}));
    visit("prefix_init_text", self.prefix_init_text,
          "the prefix starts as the keys and values of these words");
  }
};

void fill_zero(AdapterBuilder& builder, const std::string& key) {
  const at::NoGradGuard no_grad;
  builder.adapter().trained.at(key).zero_();
}

/// `words`: ids of the text that the prefix starts as; empty: drawn.
Tensor direct_start(AdapterBuilder& builder, const PrefixConfig& config, const StartTokens& words) {
  const int64_t v = config.num_virtual_tokens, width = 2 * *config.num_layers * *config.token_dim;
  if (builder.from_file() || config.init_weights == Json("zero")) return builder.zeros({v, width});
  if (words.empty()) return builder.normal("prompt_embeddings", {v, width}, 1);
  std::vector<int64_t> ids;
  for (const auto& word : words) ids.insert(ids.end(), word.begin(), word.end());
  return prefix_of_text(builder.model(), ids, v);
}

PromptSource make_source(AdapterBuilder& builder, const PrefixConfig& config, const StartTokens& words) {
  const int64_t v = config.num_virtual_tokens, dim = *config.token_dim, width = 2 * *config.num_layers * dim;
  const bool zero = config.init_weights == Json("zero");
  const std::string key = "prompt_encoder.embedding.weight";
  if (builder.from_file() || !config.prefix_projection)
    return PromptSource(builder.train("prompt_embeddings", direct_start(builder, config, words)));
  if (!words.empty()) {
    throw UsageError("prefix_init_text",
                     "with prefix_projection, expected one of them: a network's output is "
                     "not set");
  }
  const Tensor embedding = builder.train(key, builder.normal(key, {v, dim}, 1));
  auto encoder = make_mlp(
      builder, {.name = "transform", .sizes = {dim, *config.encoder_hidden_size, width}, .tanh = true});
  if (zero) {
    fill_zero(builder, "prompt_encoder.transform.2.weight");
    fill_zero(builder, "prompt_encoder.transform.2.bias");
  }
  return PromptSource(embedding, std::move(encoder));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  if (model.info().model_type == "deberta-v2") {
    throw UsageError("method",
                     "a prefix in front of a deberta-v2 model, expected a method without one: keys in "
                     "front have no distance to a word");
  }
  ConfigSource source(given);
  const StartTokens words = take_start_tokens(source, "prefix_init_ids");
  auto config = read_method_config<PrefixConfig>(source, kPrefixTuning.peft_type, model);
  AdapterBuilder builder(kPrefixTuning, source, model, seed);
  settle_sizes(builder, config, PromptSizes::of(model, true));
  if (!config.prefix_init_text.is_null() && !builder.from_file() && words.empty()) {
    throw UsageError("prefix_init_text", "without its tokens, expected a text of one token or more");
  }
  if (!config.encoder_hidden_size) config.encoder_hidden_size = config.token_dim;
  builder.config()["encoder_hidden_size"] = *config.encoder_hidden_size;
  builder.adapter().input = std::make_shared<PrefixPrompt>(make_source(builder, config, words),
                                                           *config.num_layers, *config.num_attention_heads);
  train_prompt_heads(builder, config);
  save_encoded(builder.adapter());
  if (config.prefix_init_text.is_null()) {
    builder.config().erase("prefix_init_text");
  } else {
    // PEFT does not know the key, and what the text gave is in the file.
    builder.adapter().before_saving = [](TensorMap&, Json& file) { file.erase("prefix_init_text"); };
  }
  return builder.finish();
}

}  // namespace

const TuningMethod kPrefixTuning = {"prefix_tuning", "PREFIX_TUNING", create,
                                    [] { return prompt_help<PrefixConfig>("prefix_init_ids"); }, 5e-3};

}  // namespace graft
