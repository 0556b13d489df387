// What LLaMA and its kin share around their blocks: reading the record, the stack, the names of its parts.
#pragma once
#include <string>
#include <vector>

#include "graft/models/config.h"
#include "graft/models/decoder_model.h"
#include "graft/nn/embedding.h"
#include "graft/nn/norm.h"
#include "graft/nn/rotary.h"
#include "graft/nn/stack.h"

namespace graft {

/// A record with its rotary positions, heads checked; `harmless` as in read_config, beside the keys of the
/// rotary positions. `partial`: heads that turn in part are the family's own; transformers' others have them
/// only where positions are scaled.
template <class Config>
Config read_rotary_config(const Json& config, std::vector<std::string> harmless = {}, bool partial = false) {
  harmless.insert(harmless.end(),
                  {"rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings"});
  auto record = read_config<Config>(config, harmless);
  check_heads(record.num_attention_heads, record.kv_heads(), record.dim());
  Json positions = config;
  positions["max_position_embeddings"] = record.max_position_embeddings;
  record.rotary = RotaryConfig::read(positions);
  if (!partial && record.rotary.type == "default") record.rotary.partial_factor = 1;
  return record;
}

/// Words, blocks and the last norm; "model." where there is a head. The family's `make_block(config, rotary,
/// layer)` gives each block.
template <class Block>
class RotaryStack : public Module {
 public:
  template <class Config>
  explicit RotaryStack(const Config& config)
      : embed_tokens_(config.vocab_size, config.hidden_size),
        rotary_(config.rotary, config.dim()),
        norm_(config.hidden_size, config.rms_norm_eps) {
    add("embed_tokens", embed_tokens_);
    for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
      blocks_.push_back(make_block(config, rotary_, i));
      add(fmt::format("layers.{}", i), *blocks_.back());
    }
    add("norm", norm_);
  }
  /// → [T, hidden]; [N, hidden] where rows are read.
  Tensor forward(const Batch& batch) const {
    const Tensor x = embed_tokens_.inputs(batch.input_ids, batch.embeddings);
    return run_stack(blocks_, x, batch, [this](const Tensor& y) { return norm_.forward(y); });
  }
  Embedding& words() { return embed_tokens_; }

 private:
  Embedding embed_tokens_;
  Rotary rotary_;
  std::vector<std::unique_ptr<Block>> blocks_;
  RmsNorm norm_;
};

/// Roles of q_proj, k_proj, v_proj, o_proj and a gated feed-forward part.
inline std::vector<Role> gated_roles() {
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

template <class Config>
DecoderTraits rotary_traits(const char* model_type, const Config& record) {
  DecoderTraits traits;
  traits.info = {.model_type = model_type,
                 .hidden_size = record.hidden_size,
                 .num_layers = record.num_hidden_layers,
                 .num_heads = record.num_attention_heads,
                 .num_kv_heads = record.kv_heads(),
                 .head_dim = record.dim(),
                 .vocab_size = record.vocab_size,
                 .max_positions = record.rotary.longest(),
                 .is_decoder = true,
                 .rotary_switch = record.rotary.switch_length()};
  traits.network = "model";
  traits.roles = gated_roles();
  traits.tied = record.tie_word_embeddings;
  traits.padding_row = record.pad_token_id.value_or(-1);
  return traits;
}

}  // namespace graft
