#include "graft/models/gemma2.h"

#include <ATen/ATen.h>

#include <cmath>

#include "graft/models/rotary_decoder.h"
#include "graft/nn/gated_mlp.h"
#include "graft/nn/rotary_attention.h"
#include "graft/nn/sublayer.h"
#include "graft/ops/few_values.h"

namespace graft {
namespace {

struct Gemma2Config {
  int64_t vocab_size = 256000, hidden_size = 2304, intermediate_size = 9216, num_hidden_layers = 26;
  int64_t num_attention_heads = 8, max_position_embeddings = 8192, query_pre_attn_scalar = 256;
  std::optional<int64_t> num_key_value_heads = 4, head_dim = 256, pad_token_id = 0, sliding_window = 4096;
  std::optional<double> attn_logit_softcapping = 50, final_logit_softcapping = 30;
  std::optional<std::vector<std::string>> layer_types;
  std::string hidden_activation = "gelu_pytorch_tanh";
  double rms_norm_eps = 1e-6, attention_dropout = 0;
  bool attention_bias = false, tie_word_embeddings = true;
  RotaryConfig rotary;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("intermediate_size", self.intermediate_size, "width of the feed-forward part", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "blocks", count_check());
    visit("num_attention_heads", self.num_attention_heads, "query heads", count_check());
    visit("num_key_value_heads", self.num_key_value_heads,
          "key and value heads; null: as many as query heads");
    visit("head_dim", self.head_dim, "null: hidden_size / num_attention_heads");
    visit("max_position_embeddings", self.max_position_embeddings, "trained length", size_check());
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("hidden_activation", self.hidden_activation, "activation", one_of(activation_names()));
    visit("rms_norm_eps", self.rms_norm_eps, "in every norm", eps_check());
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("attention_bias", self.attention_bias, "biases in attention");
    visit("sliding_window", self.sliding_window, "keys that a query sees; null: all");
    visit("layer_types", self.layer_types,
          "sliding_attention or full_attention, a layer each; null: in turn");
    visit("query_pre_attn_scalar", self.query_pre_attn_scalar, "scores are divided by its root",
          size_check());
    visit("attn_logit_softcapping", self.attn_logit_softcapping, "bound of the scores; null: none");
    visit("final_logit_softcapping", self.final_logit_softcapping, "bound of the logits; null: none");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  /// Keys that a query of this layer sees; 0: all.
  int64_t window(int64_t layer) const {
    const bool sliding = layer_types ? is_sliding(*layer_types, layer) : layer % 2 == 0;
    return sliding ? sliding_window.value_or(0) : 0;
  }
  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t dim() const {
    return head_dim ? *head_dim
                    : divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

RotaryAttention::Shape attention_shape(const Gemma2Config& config) {
  return {config.hidden_size, config.num_attention_heads, config.kv_heads(),
          config.dim(),       config.attention_bias,      config.attention_bias};
}

AttentionSettings attention_settings(const Gemma2Config& config, int64_t layer) {
  return {.causal = true,
          .window = config.window(layer),
          .scale = 1 / std::sqrt(static_cast<double>(config.query_pre_attn_scalar)),
          .softcap = config.attn_logit_softcapping.value_or(0),
          .dropout = config.attention_dropout};
}

class Gemma2Layer : public Module {
 public:
  Gemma2Layer(const Gemma2Config& config, const Rotary& rotary, int64_t layer)
      : attention_(attention_shape(config), rotary, attention_settings(config, layer)),
        mlp_({config.hidden_size, config.intermediate_size}, activation(config.hidden_activation)),
        input_norm_(config.hidden_size, config.rms_norm_eps, 1),
        post_attention_norm_(config.hidden_size, config.rms_norm_eps, 1),
        pre_feedforward_norm_(config.hidden_size, config.rms_norm_eps, 1),
        post_feedforward_norm_(config.hidden_size, config.rms_norm_eps, 1) {
    add("self_attn", attention_);
    add("mlp", mlp_);
    add("input_layernorm", input_norm_);
    add("post_attention_layernorm", post_attention_norm_);
    add("pre_feedforward_layernorm", pre_feedforward_norm_);
    add("post_feedforward_layernorm", post_feedforward_norm_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor residual = read_rows(x, pass.read);
    const Tensor attended = post_attention_norm_.forward(attention_.forward(input_norm_.forward(x), pass));
    const Tensor joined = attention_output_.forward({residual, attended, {}}, dropout);
    const auto [middle, normed] = pre_feedforward_norm_.added(joined, residual);
    const Tensor fed = post_feedforward_norm_.forward(mlp_.forward(normed, dropout));
    return ops::sum(middle, output_.forward({middle, fed, {}}, dropout));
  }

 private:
  RotaryAttention attention_;
  GatedMlp mlp_;
  RmsNorm input_norm_, post_attention_norm_, pre_feedforward_norm_, post_feedforward_norm_;
  Sublayer attention_output_, output_;
};

/// Everything below the heads; "model." where there is a head.
class Gemma2Network : public Module {
 public:
  explicit Gemma2Network(const Gemma2Config& config)
      : embed_tokens_(config.vocab_size, config.hidden_size),
        rotary_(config.rotary, config.dim()),
        norm_(config.hidden_size, config.rms_norm_eps, 1) {
    embed_tokens_.scale = std::sqrt(static_cast<double>(config.hidden_size));
    add("embed_tokens", embed_tokens_);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<Gemma2Layer>(config, rotary_, i));
      add(fmt::format("layers.{}", i), *layers_.back());
    }
    add("norm", norm_);
  }
  Tensor forward(const Batch& batch) const {
    const Tensor x = embed_tokens_.inputs(batch.input_ids, batch.embeddings);
    return run_stack(layers_, x, batch, [this](const Tensor& y) { return norm_.forward(y); });
  }
  Embedding& words() { return embed_tokens_; }

 private:
  Embedding embed_tokens_;
  Rotary rotary_;
  std::vector<std::unique_ptr<Gemma2Layer>> layers_;
  RmsNorm norm_;
};

class Gemma2 : public DecoderModel<Gemma2Network> {
 public:
  Gemma2(const Gemma2Config& record, const Traits& traits, HeadKind kind, int64_t labels)
      : DecoderModel(record, traits, kind, labels), cap_(record.final_logit_softcapping.value_or(0)) {}
  Tensor logits(const Tensor& hidden, const Batch& batch) override {
    const Tensor plain = DecoderModel::logits(hidden, batch);
    return cap_ > 0 && head == HeadKind::causal_lm ? at::tanh(plain / cap_) * cap_ : plain;
  }
  /// Norms hold what is added to 1.
  Init init(const std::string& path, const Parameter& parameter) const override {
    return parameter.shape.size() == 1 ? Init{} : Model::init(path, parameter);
  }

 private:
  double cap_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_rotary_config<Gemma2Config>(config, {"hidden_act", "cache_implementation"});
  check_window(record.sliding_window);
  check_layer_types(record.layer_types, record.num_hidden_layers);
  return std::make_unique<Gemma2>(record, rotary_traits("gemma2", record), head, num_labels);
}

}  // namespace

const Family kGemma2 = {
    .model_type = "gemma2",
    .create = create,
    .prefix = "model.",
    .architectures = {{"Gemma2ForCausalLM", HeadKind::causal_lm},
                      {"Gemma2Model", HeadKind::none},
                      {"Gemma2ForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
