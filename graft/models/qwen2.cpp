#include "graft/models/qwen2.h"

#include "graft/models/rotary_decoder.h"
#include "graft/nn/gated_block.h"
#include "graft/nn/rotary_attention.h"

namespace graft {
namespace {

struct Qwen2Config {
  int64_t vocab_size = 151936, hidden_size = 4096, intermediate_size = 22016, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, max_position_embeddings = 32768, max_window_layers = 28;
  std::optional<int64_t> num_key_value_heads = 32, head_dim, pad_token_id, sliding_window = 4096;
  std::optional<std::vector<std::string>> layer_types;
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-6, attention_dropout = 0;
  bool use_sliding_window = false, tie_word_embeddings = false;
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

using Block = GatedBlock<RotaryAttention>;

std::unique_ptr<Block> make_block(const Qwen2Config& config, const Rotary& rotary, int64_t layer) {
  const RotaryAttention::Shape attention{
      config.hidden_size, config.num_attention_heads, config.kv_heads(), config.dim(), true, false};
  const AttentionSettings settings{
      .causal = true, .window = config.window(layer), .dropout = config.attention_dropout};
  const Block::Shape shape{
      {config.hidden_size, config.intermediate_size}, activation(config.hidden_act), config.rms_norm_eps};
  return std::make_unique<Block>(shape, attention, rotary, settings);
}

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_rotary_config<Qwen2Config>(config);
  check_window(record.sliding_window);
  check_layer_types(record.layer_types, record.num_hidden_layers);
  return std::make_unique<DecoderModel<RotaryStack<Block>>>(record, rotary_traits("qwen2", record), head,
                                                            num_labels);
}

}  // namespace

const Family kQwen2 = {
    .model_type = "qwen2",
    .create = create,
    .prefix = "model.",
    .architectures = {{"Qwen2ForCausalLM", HeadKind::causal_lm},
                      {"Qwen2Model", HeadKind::none},
                      {"Qwen2ForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
