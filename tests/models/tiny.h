// Tiny models of every family, with random weights: what laws are tested on where no reference material is.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "graft/base/random.h"
#include "graft/models/model.h"

namespace graft::test {

struct Tiny {
  std::string name;
  const char* config;
  bool tied = false;       // the head is the word embedding
  bool has_prefix = true;  // keys in front of a sequence
};

inline const std::vector<Tiny>& tiny_models() {
  static const std::vector<Tiny> rows = {
      {"bert_mlm",
       R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 32})",
       true},
      {"bert_seqcls",
       R"({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 61,
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        "max_position_embeddings": 32, "id2label": {"0": "a", "1": "b", "2": "c"}})"},
      {"llama",
       R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 40, "max_position_embeddings": 64, "tie_word_embeddings": true, "pad_token_id": 1,
        "attention_dropout": 0.2})",
       true},
      {"gpt2", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 61, "n_embd": 24,
        "n_layer": 2, "n_head": 3, "n_positions": 64})",
       true},
      {"t5",
       R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 61, "d_model": 24,
        "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12})",
       true},
      {"mt5", R"({"model_type": "mt5", "architectures": ["MT5ForConditionalGeneration"], "vocab_size": 61,
        "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12})"},
      {"mistral",
       R"({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
        "max_position_embeddings": 64, "attention_dropout": 0.2, "sliding_window": 3})"},
      {"qwen2",
       R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
        "max_position_embeddings": 64, "attention_dropout": 0.2, "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1})"},
      {"qwen3",
       R"({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
        "max_position_embeddings": 64, "attention_dropout": 0.2, "head_dim": 8})"},
      {"phi3",
       R"({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
        "max_position_embeddings": 64, "resid_pdrop": 0.1})"},
      {"roberta",
       R"({"model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 34, "type_vocab_size": 1})",
       true},
      {"electra",
       R"({"model_type": "electra", "architectures": ["ElectraForMaskedLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 34, "embedding_size": 12})",
       true},
      {"albert",
       R"({"model_type": "albert", "architectures": ["AlbertForSequenceClassification"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 34, "embedding_size": 12, "hidden_dropout_prob": 0.1})"},
      {"deberta_v2",
       R"({"model_type": "deberta-v2", "architectures": ["DebertaV2ForSequenceClassification"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 34, "relative_attention": true,
        "pos_att_type": "c2p|p2c", "position_buckets": 6, "share_att_key": false, "position_biased_input": false,
        "conv_kernel_size": 3})",
       false, false},
      {"gemma2",
       R"({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": 64, "attention_dropout": 0.2, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 3, "query_pre_attn_scalar": 9})",
       true},
      {"gpt_neox",
       R"({"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
        "max_position_embeddings": 64, "attention_dropout": 0.2, "rotary_pct": 0.34})"},
      {"opt",
       R"({"model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": 61, "hidden_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 40, "max_position_embeddings": 64,
        "word_embed_proj_dim": 12, "do_layer_norm_before": false})",
       true},
  };
  return rows;
}

/// The model with every tensor moved away from its first value, so that biases and norms count.
inline std::unique_ptr<Model> tiny_model(const Tiny& tiny, uint64_t seed = 5) {
  LoadOptions options;
  options.seed = seed;
  auto model = new_model(parse_json(tiny.config, tiny.name), options);
  RandomStream stream(seed, "moved");
  for (const auto& [path, parameter] : model->named_parameters()) {
    float* values = parameter->base.data_ptr<float>();
    for (int64_t i = 0; i < parameter->base.numel(); ++i) {
      values[i] += static_cast<float>(0.2 * stream.normal());
    }
  }
  return model;
}

/// One sequence's tokens; for encoder-decoders both sides'.
struct Text {
  std::vector<int64_t> ids, decoder_ids;
};

inline Text some_text(uint64_t seed, int64_t length, int64_t decoder_length = 4) {
  RandomStream stream(seed, "text");
  Text text;
  for (int64_t i = 0; i < length; ++i) text.ids.push_back(static_cast<int64_t>(stream.below(61)));
  for (int64_t i = 0; i < decoder_length; ++i)
    text.decoder_ids.push_back(static_cast<int64_t>(stream.below(61)));
  return text;
}

inline void pack(const std::vector<std::vector<int64_t>>& sequences, Tensor& ids, Layout& layout) {
  std::vector<int64_t> all, lengths;
  for (const auto& sequence : sequences) {
    all.insert(all.end(), sequence.begin(), sequence.end());
    lengths.push_back(static_cast<int64_t>(sequence.size()));
  }
  ids = at::tensor(all, at::kLong);
  layout = Layout::of(lengths);
}

inline Batch batch_of(const Model& model, const std::vector<Text>& texts) {
  Batch batch;
  std::vector<std::vector<int64_t>> ids, decoder_ids;
  for (const Text& text : texts) {
    ids.push_back(text.ids);
    decoder_ids.push_back(text.decoder_ids);
  }
  pack(ids, batch.input_ids, batch.layout);
  if (model.info().is_encoder_decoder) pack(decoder_ids, batch.decoder_input_ids, batch.decoder_layout);
  return batch;
}

/// The layout of the rows that come out.
inline const Layout& result_layout(const Model& model, const Batch& batch) {
  return model.info().is_encoder_decoder ? batch.decoder_layout : batch.layout;
}

inline double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) return 1e9;
  return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>();
}

}  // namespace graft::test
