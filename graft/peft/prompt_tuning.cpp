#include "graft/peft/prompt_tuning.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/peft/soft_prompt.h"

namespace graft {
namespace {

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const std::vector<int64_t> ids = take_init_ids(source);
  auto config = read_method_config<PromptInitConfig>(source, kPromptTuning.peft_type, model);
  AdapterBuilder builder(kPromptTuning, source, model, seed);
  settle_sizes(builder, config, PromptSizes::of(model, false));
  PromptSource rows(builder.train("prompt_embeddings", initial_prompt(builder, config, ids)));
  builder.adapter().input = std::make_shared<EmbeddedPrompt>(std::move(rows), config.num_virtual_tokens);
  train_prompt_heads(builder, config);
  return builder.finish();
}

}  // namespace

std::vector<int64_t> take_init_ids(ConfigSource& source) {
  std::vector<int64_t> ids;
  const auto given = source.json.find("prompt_tuning_init_ids");
  if (source.from_file || given == source.json.end()) return ids;
  read_value(*given, ids, "method.prompt_tuning_init_ids");
  source.json.erase("prompt_tuning_init_ids");
  return ids;
}

Tensor initial_prompt(AdapterBuilder& builder, const PromptInitConfig& config,
                      const std::vector<int64_t>& ids) {
  const int64_t rows = config.num_virtual_tokens * *config.num_transformer_submodules;
  const std::string key = "prompt_embeddings";
  if (builder.from_file() || config.prompt_tuning_init == "RANDOM") {
    return builder.normal(key, {rows, *config.token_dim}, 1);
  }
  const Tensor table = builder.model().word_embedding().weight->base;
  std::vector<int64_t> chosen;
  if (config.prompt_tuning_init == "SAMPLE_VOCAB") {
    for (int64_t i = 0; i < rows; ++i) chosen.push_back(builder.draw_below(key, i, table.size(0)));
  } else if (config.prompt_tuning_init == "TEXT" && !ids.empty()) {
    for (int64_t i = 0; i < rows; ++i) chosen.push_back(ids[static_cast<size_t>(i) % ids.size()]);
  } else {
    throw UsageError("prompt_tuning_init",
                     "{} without the tokens to start from, expected RANDOM, SAMPLE_VOCAB or a text",
                     config.prompt_tuning_init);
  }
  for (const int64_t id : chosen) {
    if (id < 0 || id >= table.size(0))
      throw UsageError("prompt_tuning_init", "token {}, expected 0 to {}", id, table.size(0) - 1);
  }
  return widened(table.index_select(0, at::tensor(chosen, at::kLong)));
}

const TuningMethod kPromptTuning = {"prompt_tuning", "PROMPT_TUNING", create, 3e-2};

}  // namespace graft
