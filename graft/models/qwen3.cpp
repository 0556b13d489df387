#include "graft/models/qwen3.h"

#include <ATen/ATen.h>

#include "graft/models/rotary_decoder.h"
#include "graft/nn/gated_block.h"
#include "graft/nn/linear.h"

namespace graft {
namespace {

struct Qwen3Config {
  int64_t vocab_size = 151936, hidden_size = 4096, intermediate_size = 22016, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, max_position_embeddings = 32768, max_window_layers = 28;
  std::optional<int64_t> num_key_value_heads = 32, head_dim = 128, pad_token_id, sliding_window = 4096;
  std::optional<std::vector<std::string>> layer_types;
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-6, attention_dropout = 0;
  bool attention_bias = false, use_sliding_window = false, tie_word_embeddings = false;
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
    visit("use_sliding_window", self.use_sliding_window, "some layers see only the window");
    visit("sliding_window", self.sliding_window, "keys that a query sees; null: all");
    visit("max_window_layers", self.max_window_layers, "layers from here on have the window",
          at_least<int64_t>(0));
    visit("layer_types", self.layer_types, "sliding_attention or full_attention, a layer each");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  /// Keys that a query of this layer sees; 0: all.
  int64_t window(int64_t layer) const {
    if (!use_sliding_window || !sliding_window) return 0;
    const bool sliding = layer_types ? is_sliding(*layer_types, layer) : layer >= max_window_layers;
    return sliding ? *sliding_window : 0;
  }
  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t dim() const {
    return head_dim ? *head_dim
                    : divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

class Qwen3Attention : public Module {
 public:
  Qwen3Attention(const Qwen3Config& config, const Rotary& rotary, int64_t layer)
      : q_proj_(config.hidden_size, config.num_attention_heads * config.dim(), config.attention_bias),
        k_proj_(config.hidden_size, config.kv_heads() * config.dim(), config.attention_bias),
        v_proj_(config.hidden_size, config.kv_heads() * config.dim(), config.attention_bias),
        o_proj_(config.num_attention_heads * config.dim(), config.hidden_size, config.attention_bias),
        q_norm_(config.dim(), config.rms_norm_eps),
        k_norm_(config.dim(), config.rms_norm_eps),
        rotary_(rotary),
        head_dim_(config.dim()) {
    settings_.causal = true;
    settings_.window = config.window(layer);
    settings_.dropout = config.attention_dropout;
    add("q_proj", q_proj_);
    add("k_proj", k_proj_);
    add("v_proj", v_proj_);
    add("o_proj", o_proj_);
    add("q_norm", q_norm_);
    add("k_norm", k_norm_);
  }
  Tensor forward(const Tensor& x, const LayerPass& pass) const {
    const auto [q, k, v] = project(q_proj_, k_proj_, v_proj_, x, pass, head_dim_);
    const Projections rotated = rotary_.apply({q_norm_.forward(q), k_norm_.forward(k), v}, pass);
    return o_proj_.forward(attend(rotated, pass, settings_), pass.batch.dropout);
  }

 private:
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  RmsNorm q_norm_, k_norm_;
  const Rotary& rotary_;
  int64_t head_dim_;
  AttentionSettings settings_;
};

using Block = GatedBlock<Qwen3Attention>;

std::unique_ptr<Block> make_block(const Qwen3Config& config, const Rotary& rotary, int64_t layer) {
  const Block::Shape shape{
      {config.hidden_size, config.intermediate_size}, activation(config.hidden_act), config.rms_norm_eps};
  return std::make_unique<Block>(shape, config, rotary, layer);
}

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_rotary_config<Qwen3Config>(config);
  check_window(record.sliding_window);
  check_layer_types(record.layer_types, record.num_hidden_layers);
  return std::make_unique<DecoderModel<RotaryStack<Block>>>(record, rotary_traits("qwen3", record), head,
                                                            num_labels);
}

}  // namespace

const Family kQwen3 = {
    .model_type = "qwen3",
    .create = create,
    .prefix = "model.",
    .architectures = {{"Qwen3ForCausalLM", HeadKind::causal_lm},
                      {"Qwen3Model", HeadKind::none},
                      {"Qwen3ForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
