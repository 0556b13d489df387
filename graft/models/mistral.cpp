#include "graft/models/mistral.h"

#include "graft/models/rotary_decoder.h"
#include "graft/nn/gated_block.h"
#include "graft/nn/rotary_attention.h"

namespace graft {
namespace {

struct MistralConfig {
  int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 14336, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, max_position_embeddings = 131072;
  std::optional<int64_t> num_key_value_heads = 8, head_dim, pad_token_id, sliding_window = 4096;
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-6, attention_dropout = 0;
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
    visit("head_dim", self.head_dim, "null: hidden_size / num_attention_heads");
    visit("max_position_embeddings", self.max_position_embeddings, "trained length", size_check());
    visit("pad_token_id", self.pad_token_id, "row of the word embedding that starts as zeros");
    visit("hidden_act", self.hidden_act, "activation", one_of(activation_names()));
    visit("rms_norm_eps", self.rms_norm_eps, "in every norm", eps_check());
    visit("attention_dropout", self.attention_dropout, "of weights", probability_check());
    visit("sliding_window", self.sliding_window, "keys that a query sees; null: all");
    visit("tie_word_embeddings", self.tie_word_embeddings, "the head is the word embedding");
  }
  int64_t kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int64_t dim() const {
    return head_dim ? *head_dim
                    : divided(hidden_size, num_attention_heads, "hidden_size", "num_attention_heads");
  }
};

using Block = GatedBlock<RotaryAttention>;

std::unique_ptr<Block> make_block(const MistralConfig& config, const Rotary& rotary, int64_t) {
  const RotaryAttention::Shape attention{config.hidden_size, config.num_attention_heads, config.kv_heads(),
                                         config.dim()};
  const AttentionSettings settings{
      .causal = true, .window = config.sliding_window.value_or(0), .dropout = config.attention_dropout};
  const Block::Shape shape{
      {config.hidden_size, config.intermediate_size}, activation(config.hidden_act), config.rms_norm_eps};
  return std::make_unique<Block>(shape, attention, rotary, settings);
}

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t num_labels) {
  const auto record = read_rotary_config<MistralConfig>(config);
  check_window(record.sliding_window);
  return std::make_unique<DecoderModel<RotaryStack<Block>>>(record, rotary_traits("mistral", record), head,
                                                            num_labels);
}

}  // namespace

const Family kMistral = {
    .model_type = "mistral",
    .create = create,
    .prefix = "model.",
    .architectures = {{"MistralForCausalLM", HeadKind::causal_lm},
                      {"MistralModel", HeadKind::none},
                      {"MistralForSequenceClassification", HeadKind::sequence_classification}},
    .heads = {"lm_head.", "score."},
    .buffers = {"rotary_emb.inv_freq"},
};

}  // namespace graft
