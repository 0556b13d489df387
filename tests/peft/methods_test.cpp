#include "tests/peft/methods.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graft/base/error.h"

namespace graft::test {

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
       .count = [](int64_t in, int64_t out) { return 3 * (in + out) + out; }},
      {.name = "lora_tokens",
       .config = R"({"name": "lora", "r": 3, "lora_alpha": 7, "trainable_token_indices": [2, 5, 17, 60]})"},
      {.name = "full", .config = R"({"name": "full"})", .targets = false},
      {.name = "bitfit",
       .config = R"({"name": "bitfit"})",
       .targets = false,
       .refuses = {"llama", "t5", "mt5", "mistral", "qwen3", "phi3"}},
      {.name = "did", .config = R"({"name": "did", "d": 40})", .targets = false},
      {.name = "said", .config = R"({"name": "said", "d": 90})", .targets = false},
      {.name = "layernorm", .config = R"({"name": "layernorm"})", .targets = false},
  };
  return rows;
}

Adapter fresh_adapter(const MethodRow& row, Model& model) {
  Json config = parse_json(row.config, row.name);
  const TuningMethod& method = tuning_method(config.at("name").get<std::string>());
  if (row.targets && model.info().model_type == "phi3" && !config.contains("target_modules")) {
    config["target_modules"] = "all-linear";  // PEFT has no default for it
  }
  return method.create(config, model, 11);
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
  if (adapter) refresh_stand_ins(*adapter, model);
  if (adapter && adapter->input) prepared = adapter->input->before(model, prepared);
  prepared.rows = model.head_rows(result_layout(model, prepared));
  const Tensor hidden = model.run(prepared);
  return model.head == HeadKind::none ? hidden : model.logits(hidden, prepared);
}

namespace {

TEST(Methods, EveryRegisteredMethodHasARow) {
  for (const TuningMethod& method : tuning_methods()) {
    const std::string wanted = std::string("\"name\": \"") + method.name + "\"";
    const auto& rows = method_rows();
    EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [&](const MethodRow& row) {
      return std::string(row.config).find(wanted) != std::string::npos;
    })) << method.name;
  }
}

}  // namespace
}  // namespace graft::test
