#include "graft/models/llama.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/models/config.h"
#include "graft/nn/activation.h"
#include "graft/nn/attention.h"
#include "graft/nn/norm.h"
#include "graft/nn/rotary.h"

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
    const auto split = [&](const Tensor& y) { return y.view({y.size(0), -1, head_dim_}); };
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

class LlamaMlp : public Module {
 public:
  explicit LlamaMlp(const LlamaConfig& config)
      : gate_proj_(config.hidden_size, config.intermediate_size, config.mlp_bias),
        up_proj_(config.hidden_size, config.intermediate_size, config.mlp_bias),
        down_proj_(config.intermediate_size, config.hidden_size, config.mlp_bias),
        activation_(activation(config.hidden_act)) {
    add("gate_proj", gate_proj_);
    add("up_proj", up_proj_);
    add("down_proj", down_proj_);
  }
  Tensor forward(const Tensor& x, RandomStream* dropout) const {
    const Tensor gate = activation_(gate_proj_.forward(x, dropout));
    return down_proj_.forward(gate * up_proj_.forward(x, dropout), dropout);
  }

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Activation activation_;
};

class LlamaLayer : public Module {
 public:
  LlamaLayer(const LlamaConfig& config, const Rotary& rotary)
      : attention_(config, rotary),
        mlp_(config),
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
    const Tensor middle = residual + attention_output_.forward({residual, attended, {}}, dropout);
    const Tensor fed = mlp_.forward(post_attention_norm_.forward(middle), dropout);
    return middle + output_.forward({middle, fed, {}}, dropout);
  }

 private:
  LlamaAttention attention_;
  LlamaMlp mlp_;
  RmsNorm input_norm_, post_attention_norm_;
  Sublayer attention_output_, output_;
};

/// Everything below the heads; "model." where there is a head.
class LlamaNetwork : public Module {
 public:
  explicit LlamaNetwork(const LlamaConfig& config)
      : embed_tokens(config.vocab_size, config.hidden_size),
        rotary_(config.rotary, config.dim()),
        norm_(config.hidden_size, config.rms_norm_eps) {
    add("embed_tokens", embed_tokens);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers_.push_back(std::make_unique<LlamaLayer>(config, rotary_));
      add(fmt::format("layers.{}", i), *layers_.back());
    }
    add("norm", norm_);
  }
  Tensor forward(const Batch& batch) const {
    const auto read = ReadRows::of(batch, batch.layout);
    rotary_.prepare(batch.layout.positions);
    Tensor x = embed_tokens.inputs(batch.input_ids, batch.embeddings);
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (batch.trace != nullptr) batch.trace->hidden_states.push_back(x);
      const bool last = i + 1 == layers_.size();
      x = layers_[i]->forward(
          x, {batch, batch.layout, static_cast<int64_t>(i), last && read ? &*read : nullptr});
    }
    x = norm_.forward(x);
    if (batch.trace == nullptr) return x;
    batch.trace->hidden_states.push_back(x);
    return batch.rows.defined() ? x.index_select(0, batch.rows) : x;
  }

  Embedding embed_tokens;

 private:
  Rotary rotary_;
  std::vector<std::unique_ptr<LlamaLayer>> layers_;
  RmsNorm norm_;
};

class Llama : public Model {
 public:
  Llama(const LlamaConfig& record, HeadKind kind, int64_t labels)
      : network_(record), pad_(record.pad_token_id.value_or(-1)) {
    head = kind;
    num_labels = labels;
    info_ = {.model_type = "llama",
             .hidden_size = record.hidden_size,
             .num_layers = record.num_hidden_layers,
             .num_heads = record.num_attention_heads,
             .num_kv_heads = record.kv_heads(),
             .head_dim = record.dim(),
             .vocab_size = record.vocab_size,
             .max_positions = record.max_position_embeddings,
             .is_decoder = true};
    add(kind == HeadKind::none ? "" : "model", network_);
    if (kind == HeadKind::causal_lm) {
      head_ = record.tie_word_embeddings
                  ? std::make_unique<Linear>(network_.embed_tokens.weight, false)
                  : std::make_unique<Linear>(record.hidden_size, record.vocab_size, false);
      add("lm_head", *head_);
    } else if (kind != HeadKind::none) {
      head_ = std::make_unique<Linear>(record.hidden_size, labels, false);
      add("score", *head_);
    }
  }

  Tensor run(const Batch& batch) override { return network_.forward(batch); }
  Tensor logits(const Tensor& hidden, const Batch& batch) override {
    if (!head_) throw InternalError("llama", "no logits with head {}", head_name(head));
    return head_->forward(hidden, batch.dropout);
  }
  Tensor head_rows(const Layout& layout) const override {
    return head == HeadKind::sequence_classification ? layout.last_rows() : Tensor();
  }
  const ModelInfo& info() const override { return info_; }
  std::vector<Role> roles() const override {
    return {{"query", "self_attn.q_proj"},
            {"key", "self_attn.k_proj"},
            {"value", "self_attn.v_proj"},
            {"attention_output", "self_attn.o_proj"},
            {"mlp_gate", "mlp.gate_proj"},
            {"mlp_up", "mlp.up_proj"},
            {"mlp_down", "mlp.down_proj"},
            {"word_embedding", "embed_tokens"},
            {"head", "lm_head"}};
  }
  Embedding& word_embedding() override { return network_.embed_tokens; }
  Linear* output_embedding() override { return head == HeadKind::causal_lm ? head_.get() : nullptr; }
  std::vector<std::string> head_modules() const override {
    if (head == HeadKind::none || head == HeadKind::causal_lm) return {};
    return {"score"};
  }
  int64_t padding_row() const override { return pad_; }

 private:
  LlamaNetwork network_;
  std::unique_ptr<Linear> head_;
  int64_t pad_;
  ModelInfo info_;
};

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  auto record = read_config<LlamaConfig>(config, {"rope_theta", "rope_scaling", "rope_parameters"});
  check_heads(record.num_attention_heads, record.kv_heads(), record.dim());
  record.rotary = RotaryConfig::read(config);
  return std::make_unique<Llama>(record, head, num_labels);
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
