#include "graft/peft/default_targets.h"

#include <map>
#include <sstream>

#include "graft/base/error.h"

namespace graft {
namespace {

/// One model_type; "" means that PEFT has no default. Source: PEFT 0.21.2.
struct Row {
  const char *lora, *adalora, *ia3, *ia3_feedforward, *ln_tuning;
};

constexpr const char* kPreNorms = "input_layernorm post_attention_layernorm norm";
constexpr const char* kGemma2Norms =
    "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm norm";

const std::map<std::string, Row>& table() {
  static const std::map<std::string, Row> rows = {
      {"t5", {"q v", "q k v o wi wo", "k v wo", "wo", "layer_norm final_layer_norm"}},
      {"mt5", {"q v", "q k v o wi_0 wi_1 wo", "k v wi_1", "", "layer_norm final_layer_norm"}},
      {"bart",
       {"q_proj v_proj", "q_proj k_proj v_proj out_proj fc1 fc2", "q_proj v_proj fc2", "fc2",
        "self_attn_layer_norm encoder_attn_layer_norm final_layer_norm"}},
      {"gpt2", {"c_attn", "c_attn", "c_attn mlp.c_proj", "mlp.c_proj", "ln_1 ln_2 ln_f"}},
      {"bloom",
       {"query_key_value", "query_key_value", "query_key_value mlp.dense_4h_to_h", "mlp.dense_4h_to_h",
        "input_layernorm post_attention_layernorm ln_f"}},
      {"opt", {"q_proj v_proj", "q_proj k_proj v_proj out_proj fc1 fc2", "q_proj k_proj fc2", "fc2", ""}},
      {"gptj", {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj fc_out", "fc_out", "ln_1 ln_f"}},
      {"gpt_neox",
       {"query_key_value", "query_key_value", "query_key_value dense_4h_to_h", "dense_4h_to_h", ""}},
      {"gpt_neo", {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj c_proj", "c_proj", ""}},
      {"bert", {"query value", "query value", "key value output.dense", "output.dense", ""}},
      {"roberta", {"query value", "query key value dense", "key value output.dense", "output.dense", ""}},
      {"xlm-roberta", {"query value", "", "", "", ""}},
      {"electra", {"query value", "", "", "", ""}},
      {"deberta-v2",
       {"query_proj value_proj", "query_proj key_proj value_proj dense", "key_proj value_proj output.dense",
        "output.dense", ""}},
      {"deberta", {"in_proj", "in_proj", "in_proj output.dense", "output.dense", ""}},
      {"layoutlm", {"query value", "", "", "", ""}},
      {"llama", {"q_proj v_proj", "q_proj v_proj", "k_proj v_proj down_proj", "down_proj", kPreNorms}},
      {"llama4", {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj", ""}},
      {"chatglm", {"query_key_value", "", "", "", ""}},
      {"gpt_bigcode", {"c_attn", "c_attn", "c_attn mlp.c_proj", "mlp.c_proj", ""}},
      {"mpt", {"Wqkv", "", "", "", ""}},
      {"falcon",
       {"query_key_value", "", "query_key_value dense_4h_to_h", "dense_4h_to_h",
        "input_layernorm post_attention_layernorm ln_f"}},
      {"btlm", {"c_proj c_attn", "", "", "", ""}},
      {"codegen", {"qkv_proj", "", "", "", ""}},
      {"mistral", {"q_proj v_proj", "", "k_proj v_proj down_proj", "down_proj", kPreNorms}},
      {"mixtral", {"q_proj v_proj", "", "k_proj v_proj w2", "w2", kPreNorms}},
      {"stablelm", {"q_proj v_proj", "", "", "", ""}},
      {"phi", {"q_proj v_proj fc1 fc2", "", "q_proj v_proj fc2", "fc2", "input_layernorm final_layernorm"}},
      {"gemma", {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj", kPreNorms}},
      {"gemma2", {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj", kGemma2Norms}},
      {"gemma3_text",
       {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj", kGemma2Norms}},
      {"qwen2",
       {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj",
        "post_attention_layernorm"}},
      {"qwen3",
       {"q_proj v_proj", "q_proj v_proj", "q_proj v_proj down_proj", "down_proj",
        "post_attention_layernorm"}},
  };
  return rows;
}

const char* cell(TargetColumn column, const std::string& model_type, const Row& row) {
  switch (column) {
    case TargetColumn::lora:
      return row.lora;
    case TargetColumn::adalora:
      return row.adalora;
    case TargetColumn::ia3:
      return row.ia3;
    case TargetColumn::ia3_feedforward:
      return row.ia3_feedforward;
    case TargetColumn::ln_tuning:
      return row.ln_tuning;
    case TargetColumn::vera:
      return model_type == "phi" ? "q_proj v_proj" : row.lora;
    case TargetColumn::fourierft:
      return model_type == "gpt2" || model_type == "gpt_bigcode" ? "mlp.c_proj" : row.lora;
    case TargetColumn::vblora:
      return model_type == "roberta" ? row.lora : row.adalora;
  }
  throw InternalError("targets", "column {}", static_cast<int>(column));
}

}  // namespace

std::vector<std::string> default_targets(TargetColumn column, const std::string& model_type) {
  const auto row = table().find(model_type);
  const std::string names = row == table().end() ? "" : cell(column, model_type, row->second);
  // mt5's feed-forward list is empty on purpose: its IA3 scales outputs only.
  const bool empty_on_purpose = column == TargetColumn::ia3_feedforward && row != table().end();
  if (names.empty() && !empty_on_purpose) {
    throw UsageError("target_modules", "no default for a {} model, expected target_modules in the config",
                     model_type);
  }
  std::istringstream words(names);
  std::vector<std::string> out;
  for (std::string word; words >> word;) out.push_back(word);
  return out;
}

}  // namespace graft
