#include "tests/peft/methods.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graft/base/error.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

int64_t stacks(const Model& model) { return model.info().is_encoder_decoder ? 2 : 1; }

/// Of a row of the word embedding.
int64_t width(const Model& model) { return const_cast<Model&>(model).word_embedding().dim(); }

}  // namespace

const std::vector<MethodRow>& method_rows() {
  static const std::vector<MethodRow> rows = {
      {.name = "lora",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7})",
       .count = [](int64_t in, int64_t out) { return 3 * (in + out); }},
      {.name = "lora_rslora_all",
       .config =
           R"({"name": "lora", "r": 2, "lora_alpha": 5, "use_rslora": true, "target_modules": "all-linear"})",
       .count = [](int64_t in, int64_t out) { return 2 * (in + out); }},
      {.name = "lora_bias_all", .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "bias": "all"})"},
      {.name = "lora_dora",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "use_dora": true})",
       .exact_gradient = false,
       .count = [](int64_t in, int64_t out) { return 3 * (in + out) + out; }},
      {.name = "lora_tokens",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "trainable_token_indices": [2, 5, 17, 60]})"},
      {.name = "lora_pissa",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "init_lora_weights": "pissa"})",
       .count = [](int64_t in, int64_t out) { return 3 * (in + out); }},
      {.name = "lora_pissa_fast",
       .config =
           R"({"name": "lora", "r": 4, "lora_alpha": 7, "init_lora_weights": "pissa_niter_3", "use_rslora": true})"},
      {.name = "lora_olora",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "init_lora_weights": "olora"})"},
      {.name = "lora_orthogonal",
       .config = R"({"name": "lora", "r": 4, "lora_alpha": 7, "init_lora_weights": "orthogonal"})"},
      {.name = "lora_fa",
       .config = R"({"name": "lora_fa", "r": 3, "lora_alpha": 7})",
       .count = [](int64_t, int64_t out) { return 3 * out; }},
      {.name = "adalora",
       .config = R"({"name": "adalora", "init_r": 4, "target_r": 2, "lora_alpha": 7, "total_step": 10})",
       .count = [](int64_t in, int64_t out) { return 4 * (in + out + 1); }},
      {.name = "ia3", .config = R"({"name": "ia3"})"},
      {.name = "ln_tuning",
       .config = R"x({"name": "ln_tuning", "target_modules": ".*([nN]orm|ln_[0-9f])"})x"},
      {.name = "trainable_tokens",
       .config = R"({"name": "trainable_tokens", "token_indices": [2, 5, 17, 60]})"},
      {.name = "vera",
       .config = R"({"name": "vera", "r": 5, "projection_prng_key": 3})",
       .count = [](int64_t, int64_t out) { return 5 + out; }},
      {.name = "loha",
       .config = R"({"name": "loha", "r": 2, "alpha": 5})",
       .count = [](int64_t in, int64_t out) { return 4 * (in + out); }},
      {.name = "lokr", .config = R"({"name": "lokr", "r": 2, "alpha": 5})"},
      {.name = "lokr_both",
       .config = R"({"name": "lokr", "r": 1, "alpha": 5, "decompose_both": true, "decompose_factor": 4})"},
      {.name = "oft",
       .config = R"({"name": "oft", "oft_block_size": 4})",
       .count = [](int64_t in, int64_t) { return in / 4 * 6; }},
      {.name = "oft_exact", .config = R"({"name": "oft", "r": 2, "use_cayley_neumann": false})"},
      {.name = "boft",
       .config = R"({"name": "boft", "boft_block_size": 4})",
       .count = [](int64_t in, int64_t out) { return in * 4 + out; }},
      {.name = "boft_butterfly",
       .config = R"({"name": "boft", "boft_block_size": 4, "boft_n_butterfly_factor": 2})",
       .count = [](int64_t in, int64_t out) { return 2 * in * 4 + out; },
       .refuses = {"albert"}},
      {.name = "hra",
       .config = R"({"name": "hra", "r": 4})",
       .count = [](int64_t in, int64_t) { return 4 * in; }},
      {.name = "hra_orthogonal", .config = R"({"name": "hra", "r": 3, "apply_GS": true})", .identity = false},
      {.name = "fourierft",
       .config = R"({"name": "fourierft", "n_frequency": 30, "scaling": 20.0})",
       .identity = false,
       .count = [](int64_t, int64_t) { return 30; }},
      {.name = "fourierft_zero",
       .config = R"({"name": "fourierft", "n_frequency": 30, "init_weights": true})"},
      {.name = "miss",
       .config = R"({"name": "miss", "r": 5})",
       .count = [](int64_t, int64_t out) { return 5 * out; }},
      {.name = "miss_bat", .config = R"({"name": "miss", "r": 4, "init_weights": "bat"})"},
      {.name = "miss_mini", .config = R"({"name": "miss", "r": 4, "init_weights": "mini", "mini_r": 4})"},
      {.name = "shira",
       .config = R"({"name": "shira", "r": 2, "random_seed": 5})",
       .count = [](int64_t in, int64_t out) { return 2 * (in + out); }},
      {.name = "hira",
       .config = R"({"name": "hira", "r": 2})",
       .count = [](int64_t in, int64_t out) { return 2 * (in + out); }},
      {.name = "hira_gaussian", .config = R"({"name": "hira", "r": 3, "init_weights": "gaussian"})"},
      {.name = "c3a",
       .config = R"({"name": "c3a", "block_size": 4})",
       .identity = false,
       .count = [](int64_t in, int64_t out) { return in * out / 4; }},
      {.name = "c3a_zero", .config = R"({"name": "c3a", "block_size": 2, "init_weights": true})"},
      {.name = "delora",
       .config = R"({"name": "delora", "r": 3})",
       .count = [](int64_t in, int64_t out) { return 3 * (in + out) + 1; }},
      {.name = "randlora", .config = R"({"name": "randlora", "r": 5, "randlora_alpha": 5})"},
      {.name = "randlora_sparse",
       .config = R"({"name": "randlora", "r": 8, "sparse": true, "save_projection": false})"},
      {.name = "vblora",
       .config = R"({"name": "vblora", "r": 2, "num_vectors": 10, "vector_length": 4})",
       .identity = false},
      {.name = "road",
       .config = R"({"name": "road", "group_size": 4})",
       .count = [](int64_t, int64_t out) { return out; }},
      {.name = "road_2", .config = R"({"name": "road", "variant": "road_2", "group_size": 2})"},
      {.name = "road_4",
       .config = R"({"name": "road", "variant": "road_4", "group_size": 4})",
       .count = [](int64_t, int64_t out) { return 4 * out; }},
      {.name = "bottleneck_post_add",
       .config =
           R"({"name": "bottleneck", "mh_adapter": true, "cross_adapter": true, "non_linearity": "gelu_new",
               "original_ln_before": true, "residual_before_ln": "post_add", "scaling": "channel", "ln_after": true,
               "bottleneck_size": 5})",
       .identity = false,
       .merges = false},
      {.name = "bottleneck_norms",
       .config = R"({"name": "bottleneck", "original_ln_before": true, "residual_before_ln": false,
                     "ln_before": true, "ln_after": true, "adapter_residual_before_ln": true, "scaling": "learned",
                     "train_norms": true, "reduction_factor": {"0": 3, "default": 5}})",
       .identity = false,
       .merges = false},
      {.name = "houlsby",
       .config = R"({"name": "houlsby", "reduction_factor": 6})",
       .identity = false,
       .merges = false},
      {.name = "pfeiffer",
       .config = R"({"name": "pfeiffer", "bottleneck_size": 7, "init_weights": "houlsby", "scaling": 3})",
       .identity = false,
       .merges = false},
      {.name = "adapterdrop",
       .config = R"({"name": "adapterdrop", "reduction_factor": 4, "random_drop": 1})",
       .identity = false,
       .merges = false,
       .refuses = {"albert"}},
      {.name = "parallel", .config = R"({"name": "parallel"})", .merges = false},
      {.name = "compacter", .config = R"({"name": "compacter", "reduction_factor": 3})", .merges = false},
      {.name = "compacter_own_rules",
       .config = R"({"name": "compacter++", "reduction_factor": 3, "shared_phm_rule": false,
                     "factorized_phm_rule": true, "factorized_phm_W": false, "phm_dim": 2})",
       .merges = false},
      {.name = "full", .config = R"({"name": "full"})"},
      {.name = "bitfit",
       .config = R"({"name": "bitfit"})",
       .refuses = {"llama", "t5", "mt5", "mistral", "qwen3", "phi3", "gemma2"}},
      {.name = "bitfit_added",
       .config = R"({"name": "bitfit", "add_biases": true})",
       .merges = false,
       .count = [](int64_t, int64_t out) { return out; }},
      {.name = "bitfit_kinds",
       .config = R"({"name": "bitfit", "biases": ["attention_output", "layernorm"]})",
       .refuses = {"llama", "t5", "mt5", "mistral", "qwen3", "phi3", "gemma2", "qwen2"}},
      {.name = "head",
       .config = R"({"name": "head"})",
       .refuses = {"llama", "t5", "mt5", "mistral", "qwen3", "phi3", "gemma2", "qwen2", "gpt2", "roberta",
                   "electra", "gpt", "opt", "bert_mlm"}},
      {.name = "full_unfreeze",
       .config = R"({"name": "full", "unfreeze": ".*[.](layers?|h|block)[.]0[.].*"})",
       .refuses = {"albert"}},
      {.name = "prefix_words",
       .config = R"({"name": "prefix_tuning", "num_virtual_tokens": 3, "prefix_init_text": "x",
                     "prefix_init_ids": [4, 9]})",
       .identity = false,
       .merges = false,
       .refuses = {"deberta", "t5", "mt5"},
       .names_modules = false},
      {.name = "did", .config = R"({"name": "did", "d": 40})"},
      {.name = "said", .config = R"({"name": "said", "d": 90})"},
      {.name = "layernorm", .config = R"({"name": "layernorm"})"},
      {.name = "prompt_tuning",
       .config = R"({"name": "prompt_tuning", "num_virtual_tokens": 3})",
       .identity = false,
       .merges = false,
       .input_count = [](const Model& model) { return stacks(model) * 3 * width(model); },
       .names_modules = false},
      {.name = "prompt_tuning_words",
       .config = R"({"name": "prompt_tuning", "num_virtual_tokens": 4, "prompt_tuning_init": "TEXT",
                     "prompt_tuning_init_ids": [7, 11, 5]})",
       .identity = false,
       .merges = false,
       .names_modules = false},
      {.name = "p_tuning",
       .config = R"({"name": "p_tuning", "num_virtual_tokens": 3, "encoder_hidden_size": 10})",
       .identity = false,
       .merges = false,
       .input_count =
           [](const Model& model) {
             const int64_t d = width(model);
             return stacks(model) * 3 * d + (d + 1) * 10 + 11 * 10 + 11 * d;
           },
       .names_modules = false},
      {.name = "p_tuning_lstm",
       .config = R"({"name": "p_tuning", "num_virtual_tokens": 3, "encoder_hidden_size": 5,
                     "encoder_reparameterization_type": "LSTM", "encoder_num_layers": 1})",
       .identity = false,
       .merges = false,
       .names_modules = false},
      {.name = "prefix_tuning",
       .config = R"({"name": "prefix_tuning", "num_virtual_tokens": 3})",
       .identity = false,
       .merges = false,
       .input_count =
           [](const Model& model) {
             const ModelInfo& info = model.info();
             return 3 * 2 * info.num_layers * info.num_kv_heads * info.head_dim;
           },
       .refuses = {"deberta"},
       .names_modules = false},
      {.name = "prefix_projection",
       .config = R"({"name": "prefix_tuning", "num_virtual_tokens": 3, "prefix_projection": true,
                     "encoder_hidden_size": 10})",
       .identity = false,
       .merges = false,
       .refuses = {"deberta"},
       .names_modules = false},
      {.name = "multitask_prompt",
       .config = R"({"name": "multitask_prompt_tuning", "num_virtual_tokens": 3, "num_tasks": 2,
                     "num_ranks": 2})",
       .identity = false,
       .merges = false,
       .input_count =
           [](const Model& model) {
             const int64_t d = width(model), v = stacks(model) * 3;
             return v * d + 2 * 2 * (v + d);
           },
       .names_modules = false},
  };
  return rows;
}

Adapter fresh_adapter(const MethodRow& row, Model& model) {
  Json config = parse_json(row.config, row.name);
  const TuningMethod& method = tuning_method(config.at("name").get<std::string>());
  try {
    return method.create(config, model, 11);
  } catch (const UsageError& error) {
    if (std::string(error.what()).find("no default for a") == std::string::npos) throw;
    config["target_modules"] = "all-linear";  // PEFT has no default for this family
    return method.create(config, model, 11);
  }
}

void move_tensors(const Adapter& adapter, double noise) {
  const at::NoGradGuard no_grad;
  for (const auto& [key, tensor] : adapter.trained) {
    RandomStream stream(3, key);
    Tensor added = at::empty(tensor.sizes(), at::kDouble);
    double* out = added.data_ptr<double>();
    for (int64_t i = 0; i < added.numel(); ++i) out[i] = noise * stream.normal();
    Tensor target = tensor;
    target.add_(added.to(tensor.scalar_type()));
  }
}

Tensor answer(Model& model, const Adapter* adapter, const Batch& batch) {
  Batch prepared = batch;
  const Layout& layout = result_layout(model, batch);
  prepared.rows = model.head_rows(layout, batch.input_ids);
  if (!prepared.rows.defined()) prepared.rows = at::arange(layout.rows());  // the text's, no virtual ones
  if (adapter) refresh_stand_ins(*adapter, model);
  if (adapter && adapter->input) prepared = adapter->input->before(model, prepared);
  const Tensor hidden = model.run(prepared);
  return model.head == HeadKind::none ? hidden : model.logits(hidden, prepared);
}

namespace {

TEST(Methods, WhatIsBeyondTheMachinesMemoryIsRefusedBeforeItIsMade) {
  for (const char* tokens : {"4000000000000", "9000000000000000000"}) {
    const auto model = tiny_model(tiny_models()[0]);
    const Json config =
        parse_json(fmt::format(R"({{"name": "prompt_tuning", "num_virtual_tokens": {}}})", tokens), "test");
    const std::string error =
        message_of<UsageError>([&] { tuning_method("prompt_tuning").create(config, *model, 0); });
    EXPECT_NE(error.find("larger than this machine's memory"), std::string::npos) << error;
  }
}

TEST(Methods, EveryRegisteredMethodHasARow) {
  for (const TuningMethod& method : tuning_methods()) {
    const std::string wanted = std::string("\"name\": \"") + method.name + "\"";
    const auto& rows = method_rows();
    EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [&](const MethodRow& row) {
      return std::string(row.config).find(wanted) != std::string::npos;
    })) << method.name;
  }
}

/// What help says of a method's keys is what its recipes take.
TEST(Methods, HelpHasEveryRowsKeys) {
  for (const MethodRow& row : method_rows()) {
    Json config = parse_json(row.config, "test");
    const std::vector<FieldHelp> help = tuning_method(config["name"].get<std::string>()).help();
    config.erase("name");
    for (const auto& [key, value] : config.items()) {
      EXPECT_TRUE(
          std::any_of(help.begin(), help.end(),
                      [&, wanted = "method." + key](const FieldHelp& one) { return one.path == wanted; }))
          << row.name << " " << key;
    }
  }
}

}  // namespace
}  // namespace graft::test
