#include "graft/models/mt5.h"

#include "graft/models/t5.h"

namespace graft {
namespace {

std::unique_ptr<Model> create(const Json& config, HeadKind head, int64_t) {
  T5Config defaults;
  defaults.vocab_size = 250112;
  defaults.d_ff = 1024;
  defaults.num_layers = 8;
  defaults.num_heads = 6;
  defaults.feed_forward_proj = "gated-gelu";
  defaults.tie_word_embeddings = false;
  defaults.scale_decoder_outputs = false;
  return new_t5(read_t5_config(config, defaults), "mt5", head);
}

}  // namespace

const Family kMt5 = {
    .model_type = "mt5",
    .create = create,
    .architectures = {{"MT5ForConditionalGeneration", HeadKind::seq2seq_lm}},
    .heads = {"lm_head."},
    .buffers = {"EncDecAttention.relative_attention_bias.weight"},
};

}  // namespace graft
