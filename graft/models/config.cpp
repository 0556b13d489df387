#include "graft/models/config.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace graft {
namespace {

/// What transformers writes beside a model's own settings: labels, generation, file format, bookkeeping.
/// Sizes and numbers are not here.
const std::vector<std::string>& harmless_everywhere() {
  static const std::vector<std::string> keys = {"architectures",
                                                "auto_map",
                                                "bad_words_ids",
                                                "begin_suppress_tokens",
                                                "bos_token_id",
                                                "cls_token_id",
                                                "decoder_start_token_id",
                                                "directionality",
                                                "diversity_penalty",
                                                "do_sample",
                                                "dtype",
                                                "early_stopping",
                                                "encoder_no_repeat_ngram_size",
                                                "eos_token_id",
                                                "exponential_decay_length_penalty",
                                                "finetuning_task",
                                                "forced_bos_token_id",
                                                "forced_eos_token_id",
                                                "gradient_checkpointing",
                                                "id2label",
                                                "initializer_range",
                                                "is_encoder_decoder",
                                                "keys_to_ignore_at_inference",
                                                "label2id",
                                                "language",
                                                "length_penalty",
                                                "mask_token_id",
                                                "max_length",
                                                "max_new_tokens",
                                                "min_length",
                                                "min_p",
                                                "model_type",
                                                "name_or_path",
                                                "no_repeat_ngram_size",
                                                "num_beam_groups",
                                                "num_beams",
                                                "num_labels",
                                                "num_return_sequences",
                                                "output_attentions",
                                                "output_hidden_states",
                                                "output_past",
                                                "output_scores",
                                                "pad_token_id",
                                                "prefix",
                                                "pretraining_tp",
                                                "problem_type",
                                                "remove_invalid_values",
                                                "repetition_penalty",
                                                "return_dict",
                                                "return_dict_in_generate",
                                                "sep_token_id",
                                                "suppress_tokens",
                                                "task_specific_params",
                                                "temperature",
                                                "tf_legacy_loss",
                                                "tie_encoder_decoder",
                                                "tie_word_embeddings",
                                                "tokenizer_class",
                                                "top_k",
                                                "top_p",
                                                "torch_dtype",
                                                "torchscript",
                                                "transformers_version",
                                                "typical_p",
                                                "unk_token_id",
                                                "unsloth_fixed",
                                                "unsloth_version",
                                                "use_bfloat16",
                                                "use_cache",
                                                "use_return_dict",
                                                "vocab_size",
                                                "chunk_size_feed_forward",
                                                "max_position_embeddings",
                                                "transformers.js_config"};
  return keys;
}

bool switched_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_structured() && value.empty()) || (value.is_string() && value.get<std::string>().empty());
}

}  // namespace

void refuse_settings(const Json& unknown, const std::vector<std::string>& harmless) {
  const auto listed = [](const std::vector<std::string>& keys, const std::string& key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  std::vector<std::string> refused;
  for (const auto& [key, value] : unknown.items()) {
    if (key.starts_with("_") || switched_off(value)) continue;
    if (listed(harmless_everywhere(), key) || listed(harmless, key)) continue;
    const std::string text = value.dump();
    refused.push_back(fmt::format("{} = {}{}", key, text.substr(0, 60), text.size() > 60 ? "..." : ""));
  }
  if (refused.empty()) return;
  throw DataError("config.json",
                  "settings that are not implemented: {}; remove those that do not change the numbers",
                  fmt::join(refused, ", "));
}

void fail_config(const UsageError& error) {
  std::string text = error.what();  // "[key] what is wrong"
  if (const size_t end = text.find("] "); text.starts_with("[") && end != std::string::npos) {
    text = text.substr(1, end - 1) + ": " + text.substr(end + 2);
  }
  throw DataError("config.json", "{}", text);
}

int64_t divided(int64_t size, int64_t parts, const char* size_key, const char* parts_key) {
  if (parts < 1 || size % parts != 0) {
    throw DataError("config.json", "{} {} does not divide by {} {}", size_key, size, parts_key, parts);
  }
  return size / parts;
}

void check_given(const std::optional<int64_t>& size, const char* key) {
  if (size && (*size < 1 || *size > 2147483647)) {
    throw DataError("config.json", "{}: {}, expected 1 to 2147483647", key, *size);
  }
}

void check_heads(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  if (kv_heads < 1 || kv_heads > heads || heads % kv_heads != 0) {
    throw DataError("config.json", "num_key_value_heads {}, expected a divisor of num_attention_heads {}",
                    kv_heads, heads);
  }
  if (head_dim < 1 || head_dim > 65536)
    throw DataError("config.json", "head_dim {}, expected 1 to 65536", head_dim);
}

void check_window(const std::optional<int64_t>& window) {
  if (window && *window < 1)
    throw DataError("config.json", "sliding_window {}, expected at least 1", *window);
}

void check_layer_types(const std::optional<std::vector<std::string>>& types, int64_t layers) {
  if (!types) return;
  if (static_cast<int64_t>(types->size()) < layers) {
    throw DataError("config.json", "layer_types has {} entries, expected one for each of {} layers",
                    types->size(), layers);
  }
  for (const std::string& type : *types) {
    if (type != "sliding_attention" && type != "full_attention") {
      throw DataError("config.json",
                      "layer type {} is not implemented, expected sliding_attention or full_attention", type);
    }
  }
}

bool is_sliding(const std::vector<std::string>& types, int64_t layer) {
  return types.at(static_cast<size_t>(layer)) == "sliding_attention";
}

}  // namespace graft
