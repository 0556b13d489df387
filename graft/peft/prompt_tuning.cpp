#include "graft/peft/prompt_tuning.h"

#include "graft/peft/prompt_start.h"
#include "graft/peft/soft_prompt.h"

namespace graft {
namespace {

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const StartTokens tokens = take_start_tokens(source, "prompt_tuning_init_ids");
  auto config = read_method_config<PromptInitConfig>(source, kPromptTuning.peft_type, model);
  AdapterBuilder builder(kPromptTuning, source, model, seed);
  settle_sizes(builder, config, PromptSizes::of(model, false));
  settle_start(builder, config);
  PromptSource rows(builder.train("prompt_embeddings", initial_prompt(builder, config, tokens)));
  builder.adapter().input = std::make_shared<EmbeddedPrompt>(std::move(rows), config.num_virtual_tokens);
  train_prompt_heads(builder, config);
  return builder.finish();
}

}  // namespace

const TuningMethod kPromptTuning = {"prompt_tuning", "PROMPT_TUNING", create,
                                    [] { return prompt_help<PromptInitConfig>("prompt_tuning_init_ids"); },
                                    3e-2};

}  // namespace graft
