#include "graft/models/llama.h"

#include <ATen/ATen.h>

#include "graft/models/config.h"
#include "graft/models/decoder_model.h"
#include "graft/nn/attention.h"
#include "graft/nn/gated_mlp.h"
#include "graft/nn/norm.h"
#include "graft/nn/rotary.h"
#include "graft/nn/stack.h"

namespace graft {
namespace {

struct LlamaConfig {
  int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, max_position_embeddings = 2048;
  std::optional<int64_t> num_key_value_heads, head_dim, pad_token_id;
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-6, attention_dropout = 0;
  bool attention_bias = false, mlp_bias = false, tie_word_embeddings = false;
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
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("rms_norm_eps", self.rms_norm_eps, "in every norm", eps_check());
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("attention_bias", self.attention_bias, "biases in attention");
    visit("mlp_bias", self.mlp_bias, "biases in the feed-forward part");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t dim() const {
    return head_dim ? *head_dim
                    : divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class LlamaAttention : public Module {
 public:
  LlamaAttention(const LlamaConfig& config, const Rotary& rotary)
      : q_proj_(config.hidden_size, config.num_attention_heads * config.dim(), config.attention_bias),
        k_proj_(config.hidden_size, config.kv_heads() * config.dim(), config.attention_bias),
        v_proj_(config.hidden_size, config.kv_heads() * config.dim(), config.attention_bias),
        o_proj_(config.num_attention_heads * config.dim(), config.hidden_size, config.attention_bias),
        rotary_(rotary),
        head_dim_(config.dim()) {
    settings_.causal = true;
    settings_.dropout = config.attention_dropout;
    add("q_proj", q_proj_);
    add("k_proj", k_proj_);
    add("v_proj", v_proj_);
    add("o_proj", o_proj_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const auto split = [&](const Tensor& y) { return y.view({y.size(0), y.size(1) / head_dim_, head_dim_}); };
    const Tensor q = split(q_proj_.forward(pass.query_input(x), dropout));
    const Tensor k = split(k_proj_.forward(x, dropout));
    const Tensor v = split(v_proj_.forward(x, dropout));
    const Projections rotated{rotary_.apply(q, pass.query_positions()),
                              rotary_.apply(k, pass.layout.positions), v};
    return o_proj_.forward(attend(rotated, pass, settings_), dropout);
  }

 private:
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  const Rotary& rotary_;
  int64_t head_dim_;
  AttentionSettings settings_;
};

class LlamaLayer : public Module {
 public:
  LlamaLayer(const LlamaConfig& config, const Rotary& rotary)
      : attention_(config, rotary),
        mlp_({config.hidden_size, config.intermediate_size, config.mlp_bias}, activation(config.hidden_act)),
        input_norm_(config.hidden_size, config.rms_norm_eps),
        post_attention_norm_(config.hidden_size, config.rms_norm_eps) {
    add("self_attn", attention_);
    add("mlp", mlp_);
    add("input_layernorm", input_norm_);
    add("post_attention_layernorm", post_attention_norm_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor residual = read_rows(x, pass.read);
    const Tensor attended = attention_.forward(input_norm_.forward(x), pass);
    const Tensor joined = attention_output_.forward({residual, attended, {}}, dropout);
    const auto [middle, normed] = post_attention_norm_.added(joined, residual);
    const Tensor fed = mlp_.forward(normed, dropout);
    return middle + output_.forward({middle, fed, {}}, dropout);
  }

 private:
  LlamaAttention attention_;
  GatedMlp mlp_;
  RmsNorm input_norm_, post_attention_norm_;
  Sublayer attention_output_, output_;
};

/// Everything below the heads; "model." where there is a head.
class LlamaNetwork : public Module {
 public:
  explicit LlamaNetwork(const LlamaConfig& config)
      : embed_tokens_(config.vocab_size, config.hidden_size),
        rotary_(config.rotary, config.dim()),
        norm_(config.hidden_size, config.rms_norm_eps) {
    add("embed_tokens", embed_tokens_);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<LlamaLayer>(config, rotary_));
      add(fmt::format("layers.{}", i), *layers_.back());
    }
    add("norm", norm_);
  }
  Tensor forward(const Batch& batch) const {
    rotary_.prepare(batch.layout.positions);
    const Tensor x = embed_tokens_.inputs(batch.input_ids, batch.embeddings);
    return run_stack(layers_, x, batch, [this](const Tensor& y) { return norm_.forward(y); });
  }
  Embedding& words() { return embed_tokens_; }

 private:
  Embedding embed_tokens_;
  Rotary rotary_;
  std::vector<std::unique_ptr<LlamaLayer>> layers_;
  RmsNorm norm_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  auto record = read_config<LlamaConfig>(
      config, {"rope_theta", "rope_scaling", "rope_parameters", "is_llama_config", "max_sequence_length"});
  check_heads(record.num_attention_heads, record.kv_heads(), record.dim());
  record.rotary = RotaryConfig::read(config);
  DecoderModel<LlamaNetwork>::Traits traits;
  traits.info = {.model_type = "llama",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.kv_heads(),
                 .head_dim = record.dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.max_position_embeddings,
                 .is_decoder = true};
  traits.network = "model";
  traits.roles = {{"query", "self_attn.q_proj"},
                  {"key", "self_attn.k_proj"},
                  {"value", "self_attn.v_proj"},
                  {"attention_output", "self_attn.o_proj"},
                  {"mlp_gate", "mlp.gate_proj"},
                  {"mlp_up", "mlp.up_proj"},
                  {"mlp_down", "mlp.down_proj"},
                  {"word_embedding", "embed_tokens"},
                  {"head", "lm_head"}};
  traits.tied = record.tie_word_embeddings;
  traits.padding_row = record.pad_token_id.value_or(-1);
  return std::make_unique<DecoderModel<LlamaNetwork>>(record, traits, head, num_labels);
}

}  // namespace

const Family kLlama = {
    .model_type = "llama",
    .create = create,
    .prefix = "model.",
    .architectures = {{"LlamaForCausalLM", HeadKind::causal_lm},
                      {"LlamaModel", HeadKind::none},
                      {"LlamaForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
