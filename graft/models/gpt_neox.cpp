#include "graft/models/gpt_neox.h"

#include <ATen/ATen.h>

#include "graft/models/config.h"
#include "graft/models/decoder_model.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/dropout.h"
#include "graft/nn/norm.h"
#include "graft/nn/rotary.h"
#include "graft/nn/stack.h"
#include "graft/ops/few_values.h"

namespace graft {
namespace {

struct GptNeoxConfig {
  int64_t vocab_size = 50432, hidden_size = 6144, num_hidden_layers = 44, num_attention_heads = 64;
  int64_t intermediate_size = 24576, max_position_embeddings = 2048;
  std::string hidden_act = "gelu";
  double attention_dropout = 0, hidden_dropout = 0, layer_norm_eps = 1e-5;
  bool use_parallel_residual = true, attention_bias = true, tie_word_embeddings = false;
  RotaryConfig rotary;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("vocab_size", self.vocab_size, "rows of the word embedding", size_check());
    visit("hidden_size", self.hidden_size, "width of the stream", size_check());
    visit("num_hidden_layers", self.num_hidden_layers, "blocks", count_check());
    visit("num_attention_heads", self.num_attention_heads, "heads a block", count_check());
    visit("intermediate_size", self.intermediate_size, "width of the feed-forward part", size_check());
    visit("max_position_embeddings", self.max_position_embeddings, "trained length", size_check());
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("hidden_dropout", self.hidden_dropout, "of embeddings and sublayers' outputs", probability_check());
    visit("layer_norm_eps", self.layer_norm_eps, "in every norm", eps_check());
    visit("use_parallel_residual", self.use_parallel_residual, "both sublayers read the same stream");
    visit("attention_bias", self.attention_bias, "biases in attention");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t head_dim() const {
    return divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class GptNeoxAttention : public Module {
 public:
  GptNeoxAttention(const GptNeoxConfig& config, const Rotary& rotary)
      : query_key_value_(config.hidden_size, 3 * config.hidden_size, config.attention_bias),
        dense_(config.hidden_size, config.hidden_size, config.attention_bias),
        rotary_(rotary),
        heads_(config.num_attention_heads),
        head_dim_(config.head_dim()) {
    settings_.causal = true;
    settings_.dropout = config.attention_dropout;
    add("query_key_value", query_key_value_);
    add("dense", dense_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    // Head by head: its query, its key, its value.
    const Tensor fused = query_key_value_.forward(x, dropout).view({x.size(0), heads_, 3 * head_dim_});
    const Tensor q = pass.query_input(fused.narrow(2, 0, head_dim_));
    const Tensor k = fused.narrow(2, head_dim_, head_dim_), v = fused.narrow(2, 2 * head_dim_, head_dim_);
    return dense_.forward(attend(rotary_.apply({q, k, v}, pass), pass, settings_), dropout);
  }

 private:
  Linear query_key_value_, dense_;
  const Rotary& rotary_;
  int64_t heads_, head_dim_;
  AttentionSettings settings_;
};

class GptNeoxMlp : public Module {
 public:
  explicit GptNeoxMlp(const GptNeoxConfig& config)
      : up_(config.hidden_size, config.intermediate_size, true),
        down_(config.intermediate_size, config.hidden_size, true),
        activation_(activation(config.hidden_act)) {
    add("dense_h_to_4h", up_);
    add("dense_4h_to_h", down_);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    return down_.forward(activation_(up_.forward(x, dropout)), dropout);
  }

 private:
  Linear up_, down_;
  Activation activation_;
};

class GptNeoxLayer : public Module {
 public:
  GptNeoxLayer(const GptNeoxConfig& config, const Rotary& rotary)
      : input_norm_(config.hidden_size, config.layer_norm_eps),
        post_attention_norm_(config.hidden_size, config.layer_norm_eps),
        attention_(config, rotary),
        mlp_(config),
        dropout_(config.hidden_dropout),
        parallel_(config.use_parallel_residual) {
    add("input_layernorm", input_norm_);
    add("post_attention_layernorm", post_attention_norm_);
    add("attention", attention_);
    add("mlp", mlp_);
    add("attention_adapters", attention_output_);
    add("output_adapters", output_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    const Tensor residual = read_rows(x, pass.read);
    const Tensor attended = dropped(attention_.forward(input_norm_.forward(x), pass), dropout_, dropout);
    const Tensor middle = ops::sum(residual, attention_output_.forward({residual, attended, {}}, dropout));
    const Tensor& source = parallel_ ? residual : middle;
    const Tensor fed =
        dropped(mlp_.forward(post_attention_norm_.forward(source), dropout), dropout_, dropout);
    return ops::sum(middle, output_.forward({source, fed, {}}, dropout));
  }

 private:
  LayerNorm input_norm_, post_attention_norm_;
  GptNeoxAttention attention_;
  GptNeoxMlp mlp_;
  Sublayer attention_output_, output_;
  double dropout_;
  bool parallel_;
};

/// Everything below the heads; "gpt_neox." where there is a head.
class GptNeoxNetwork : public Module {
 public:
  explicit GptNeoxNetwork(const GptNeoxConfig& config)
      : embed_in_(config.vocab_size, config.hidden_size),
        rotary_(config.rotary, config.head_dim()),
        final_norm_(config.hidden_size, config.layer_norm_eps),
        dropout_(config.hidden_dropout) {
    add("embed_in", embed_in_);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<GptNeoxLayer>(config, rotary_));
      add(fmt::format("layers.{}", i), *layers_.back());
    }
    add("final_layer_norm", final_norm_);
  }
  Tensor forward(const Batch& batch) const {
    const Tensor x = dropped(embed_in_.inputs(batch.input_ids, batch.embeddings), dropout_, batch.dropout);
    return run_stack(layers_, x, batch, [this](const Tensor& y) { return final_norm_.forward(y); });
  }
  Embedding& words() { return embed_in_; }

 private:
  Embedding embed_in_;
  Rotary rotary_;
  std::vector<std::unique_ptr<GptNeoxLayer>> layers_;
  LayerNorm final_norm_;
  double dropout_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  auto record = read_config<GptNeoxConfig>(
      config, {"rope_theta", "rope_scaling", "rope_parameters", "rotary_pct", "rotary_emb_base",
               "partial_rotary_factor", "classifier_dropout", "attention_probs_dropout_prob",
               "hidden_dropout_prob", "original_max_position_embeddings"});
  Json rotary = config;
  rotary["max_position_embeddings"] = record.max_position_embeddings;
  if (!rotary.contains("rotary_pct")) rotary["rotary_pct"] = 0.25;  // the family's default
  record.rotary = RotaryConfig::read(rotary);
  DecoderModel<GptNeoxNetwork>::Traits traits;
  traits.info = {.model_type = "gpt_neox",
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.num_attention_heads,
                 .head_dim = record.head_dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.rotary.longest(),
                 .is_decoder = true,
                 .rotary_switch = record.rotary.switch_length()};
  traits.network = "gpt_neox";
  traits.roles = {{"query_key_value", "attention.query_key_value"},
                  {"attention_output", "attention.dense"},
                  {"mlp_up", "mlp.dense_h_to_4h"},
                  {"mlp_down", "mlp.dense_4h_to_h"},
                  {"word_embedding", "embed_in"},
                  {"head", "lm_head"}};
  traits.tied = record.tie_word_embeddings;
  return std::make_unique<DecoderModel<GptNeoxNetwork>>(record, traits, head, num_labels);
}

}  // namespace

const Family kGptNeox = {
    .model_type = "gpt_neox",
    .create = create,
    .prefix = "gpt_neox.",
    .architectures = {{"GPTNeoXForCausalLM", HeadKind::causal_lm},
                      {"GPTNeoXModel", HeadKind::none},
                      {"GPTNeoXForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "embed_out.", "score."},
    .buffers = {".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"},
    .renames = {{"embed_out.", "lm_head."}},
    .rename_back = true,
};

}  // namespace graft
