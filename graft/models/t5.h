// T5 (Raffel et al. 2020; v1.1: Shazeer 2020): encoder and decoder, pre-norm, relative positions. model_type
// "t5".
#pragma once
#include "graft/base/fields.h"
#include "graft/models/model.h"

namespace graft {

/// The settings of T5 and what was made from it; defaults are T5's (v1.0, small).
struct T5Config {
  int64_t vocab_size = 32128, d_model = 512, d_kv = 64, d_ff = 2048, num_layers = 6, num_heads = 8;
  int64_t relative_attention_num_buckets = 32, relative_attention_max_distance = 128;
  std::optional<int64_t> num_decoder_layers, decoder_start_token_id;
  double dropout_rate = 0.1, layer_norm_epsilon = 1e-6, initializer_factor = 1;
  std::string feed_forward_proj = "relu";  // "gated-gelu", …
  bool tie_word_embeddings = true;
  std::optional<bool> scale_decoder_outputs;  // the head's input is divided by √d_model

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit);
};

/// The network for a record; `model_type` is the family's name.
std::unique_ptr<Model> new_t5(const T5Config& config, const char* model_type, HeadKind head);
/// Reads config.json on top of `defaults`. Errors: DataError.
T5Config read_t5_config(const Json& config, const T5Config& defaults);

extern const Family kT5;

}  // namespace graft
