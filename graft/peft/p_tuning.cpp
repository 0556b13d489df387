#include "graft/peft/p_tuning.h"

#include "graft/base/error.h"
#include "graft/peft/prompt_start.h"
#include "graft/peft/soft_prompt.h"

namespace graft {
namespace {

struct PTuningConfig : PromptConfig {
  std::string encoder_reparameterization_type = "MLP";
  std::optional<int64_t> encoder_hidden_size;
  int64_t encoder_num_layers = 2;
  double encoder_dropout = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PromptConfig::fields(self, visit);
    visit("encoder_reparameterization_type", self.encoder_reparameterization_type, "the network",
          one_of({"MLP", "LSTM"}));
    visit("encoder_hidden_size", self.encoder_hidden_size, "its width; null: the model's");
    visit("encoder_num_layers", self.encoder_num_layers, "layers of the LSTM", at_least<int64_t>(1));
    visit("encoder_dropout", self.encoder_dropout, "of the LSTM: only 0 is implemented", between(0.0, 0.0));
  }
};

/// `tokens`: the words that some rows before the network start as (trained anchors of a template).
PromptSource make_source(AdapterBuilder& builder, const PTuningConfig& config, const StartTokens& tokens) {
  const int64_t rows = config.num_virtual_tokens * *config.num_transformer_submodules,
                dim = *config.token_dim;
  if (builder.from_file())
    return PromptSource(builder.train("prompt_embeddings", builder.zeros({rows, dim})));
  const std::string key = "prompt_encoder.embedding.weight";
  if (!tokens.empty() && static_cast<int64_t>(tokens.size()) != rows)
    throw UsageError("prompt_tuning_init_ids", "{} rows, expected {}", tokens.size(), rows);
  const Tensor embedding = builder.train(
      key, tokens.empty() ? builder.normal(key, {rows, dim}, 1) : start_rows(builder, key, tokens));
  const int64_t hidden = *config.encoder_hidden_size;
  if (config.encoder_reparameterization_type == "LSTM") {
    return PromptSource(embedding, make_lstm(builder, dim, hidden, config.encoder_num_layers));
  }
  return PromptSource(embedding, make_mlp(builder, {"mlp_head", {dim, hidden, hidden, dim}}));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const StartTokens tokens = take_start_tokens(source, "prompt_tuning_init_ids");
  auto config = read_method_config<PTuningConfig>(source, kPTuning.peft_type, model);
  AdapterBuilder builder(kPTuning, source, model, seed);
  settle_sizes(builder, config, PromptSizes::of(model, false));
  if (!config.encoder_hidden_size) config.encoder_hidden_size = config.token_dim;
  builder.config()["encoder_hidden_size"] = *config.encoder_hidden_size;
  builder.adapter().input =
      std::make_shared<EmbeddedPrompt>(make_source(builder, config, tokens), config.num_virtual_tokens);
  train_prompt_heads(builder, config);
  save_encoded(builder.adapter());
  return builder.finish();
}

}  // namespace

const TuningMethod kPTuning = {"p_tuning", "P_TUNING", create,
                               [] { return prompt_help<PTuningConfig>("prompt_tuning_init_ids"); }, 1e-3};

}  // namespace graft
