#include "graft/models/phi3.h"

#include <ATen/ATen.h>

#include "graft/models/rotary_decoder.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/gated_block.h"

namespace graft {
namespace {

struct Phi3Config {
  int64_t vocab_size = 32064, hidden_size = 3072, intermediate_size = 8192, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, max_position_embeddings = 4096;
  std::optional<int64_t> num_key_value_heads, pad_token_id, sliding_window;
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-5, attention_dropout = 0, resid_pdrop = 0;
  bool tie_word_embeddings = false;
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
    visit("max_position_embeddings", self.max_position_embeddings, "trained length", size_check());
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("rms_norm_eps", self.rms_norm_eps, "in every norm", eps_check());
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("resid_pdrop", self.resid_pdrop, "of sublayers' outputs", probability_check());
    visit("sliding_window", self.sliding_window, "keys that a query sees; null: all");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t dim() const {
    return divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class Phi3Attention : public Module {
 public:
  Phi3Attention(const Phi3Config& config, const Rotary& rotary)
      : qkv_proj_(config.hidden_size, (config.num_attention_heads + 2 * config.kv_heads()) * config.dim(),
                  false),
        o_proj_(config.num_attention_heads * config.dim(), config.hidden_size, false),
        rotary_(rotary),
        heads_(config.num_attention_heads),
        kv_heads_(config.kv_heads()),
        head_dim_(config.dim()) {
    settings_.causal = true;
    settings_.window = config.sliding_window.value_or(0);
    settings_.dropout = config.attention_dropout;
    add("qkv_proj", qkv_proj_);
    add("o_proj", o_proj_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    RandomStream* dropout = pass.batch.dropout;
    // Query heads, then key heads, then value heads.
    const Tensor fused = qkv_proj_.forward(x, dropout).view({-1, heads_ + 2 * kv_heads_, head_dim_});
    const Tensor q = pass.query_input(fused.narrow(1, 0, heads_));
    const Tensor k = fused.narrow(1, heads_, kv_heads_), v = fused.narrow(1, heads_ + kv_heads_, kv_heads_);
    return o_proj_.forward(attend(rotary_.apply({q, k, v}, pass), pass, settings_), dropout);
  }

 private:
  Linear qkv_proj_, o_proj_;
  const Rotary& rotary_;
  int64_t heads_, kv_heads_, head_dim_;
  AttentionSettings settings_;
};

class Phi3Mlp : public Module {
 public:
  Phi3Mlp(const GatedMlp::Shape& shape, Activation activation)
      : gate_up_proj_(shape.hidden, 2 * shape.inner, shape.bias),
        down_proj_(shape.inner, shape.hidden, shape.bias),
        activation_(activation) {
    add("gate_up_proj", gate_up_proj_);
    add("down_proj", down_proj_);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    const auto halves = gate_up_proj_.forward(x, dropout).chunk(2, 1);
    return down_proj_.forward(activation_.gated(halves[0], halves[1]), dropout);
  }

 private:
  Linear gate_up_proj_, down_proj_;
  Activation activation_;
};

using Block = GatedBlock<Phi3Attention, Phi3Mlp>;

std::unique_ptr<Block> make_block(const Phi3Config& config, const Rotary& rotary, int64_t) {
  const Block::Shape shape{{config.hidden_size, config.intermediate_size},
                           activation(config.hidden_act),
                           config.rms_norm_eps,
                           config.resid_pdrop};
  return std::make_unique<Block>(shape, config, rotary);
}

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  Json given = config;
  const char* const original = "original_max_position_embeddings";
  if (!given.contains(original)) given[original] = 4096;  // the family's default
  const auto record = read_rotary_config<Phi3Config>(given, {"partial_rotary_factor", "embd_pdrop"}, true);
  check_window(record.sliding_window);
  DecoderTraits traits = rotary_traits("phi3", record);
  traits.roles = {{"query_key_value", "self_attn.qkv_proj"},
                  {"attention_output", "self_attn.o_proj"},
                  {"mlp_up", "mlp.gate_up_proj"},
                  {"mlp_down", "mlp.down_proj"},
                  {"word_embedding", "embed_tokens"},
                  {"head", "lm_head"}};
  return std::make_unique<DecoderModel<RotaryStack<Block>>>(record, traits, head, num_labels);
}

}  // namespace

const Family kPhi3 = {
    .model_type = "phi3",
    .create = create,
    .prefix = "model.",
    .architectures = {{"Phi3ForCausalLM", HeadKind::causal_lm},
                      {"Phi3Model", HeadKind::none},
                      {"Phi3ForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
