#include "graft/peft/multitask_prompt.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/peft/prompt_start.h"

namespace graft {
namespace {

struct MultitaskConfig : PromptInitConfig {
  Json prompt_tuning_init_state_dict_path;
  int64_t prompt_tuning_init_task = 0, num_ranks = 1, num_tasks = 1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    PromptInitConfig::fields(self, visit);
    visit("prompt_tuning_init_state_dict_path", self.prompt_tuning_init_state_dict_path,
          "source tasks' file: not implemented", only_unset());
    visit("prompt_tuning_init_task", self.prompt_tuning_init_task, "task where none is given",
          at_least<int64_t>(0));
    visit("num_ranks", self.num_ranks, "rank of a task's factor", at_least<int64_t>(1));
    visit("num_tasks", self.num_tasks, "tasks", at_least<int64_t>(1));
  }
};

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const StartTokens tokens = take_start_tokens(source, "prompt_tuning_init_ids");
  auto config = read_method_config<MultitaskConfig>(source, kMultitaskPrompt.peft_type, model);
  AdapterBuilder builder(kMultitaskPrompt, source, model, seed);
  settle_sizes(builder, config, PromptSizes::of(model, false));
  settle_start(builder, config);
  constexpr double kFactorDeviation = 0.02;
  const int64_t length = config.num_virtual_tokens * *config.num_transformer_submodules;
  PromptSource prompt(builder.train("prompt_embeddings", initial_prompt(builder, config, tokens)));
  const auto factor = [&](const char* key, std::vector<int64_t> shape) {
    return builder.train(key, builder.normal(key, shape, kFactorDeviation));
  };
  const Tensor cols = factor("prefix_task_cols", {config.num_tasks, length, config.num_ranks});
  const Tensor rows = factor("prefix_task_rows", {config.num_tasks, config.num_ranks, *config.token_dim});
  const auto hook =
      std::make_shared<MultitaskPrompt>(std::move(prompt), cols, rows, config.num_virtual_tokens);
  if (config.prompt_tuning_init_task < config.num_tasks) hook->set_task(config.prompt_tuning_init_task);
  builder.adapter().input = hook;
  train_prompt_heads(builder, config);
  return builder.finish();
}

}  // namespace

EmbeddedPrompt::Rows MultitaskPrompt::rows_for(const Batch& batch, bool decoder) {
  const int64_t sequences = batch.layout.sequences(), tasks = cols_.size(0);
  const Tensor task = tasks_.defined() ? tasks_ : at::full({sequences}, task_, at::kLong);
  if (task.size(0) != sequences)
    throw DataError("task_ids", "{} for {} sequences, expected one each", task.size(0), sequences);
  if (task.lt(0).logical_or(task.ge(tasks)).any().item<bool>()) {
    throw DataError("task_ids", "{} to {}, expected 0 to {}", task.min().item<int64_t>(),
                    task.max().item<int64_t>(), tasks - 1);
  }
  const Tensor factors = at::matmul(cols_.index_select(0, task), rows_.index_select(0, task));  // [B, S, d]
  const Tensor prompts = source_.rows() * factors;
  const int64_t from = decoder ? length_ : 0;
  Rows out{prompts.slice(1, from, from + length_).reshape({sequences * length_, -1}), {}};
  for (int64_t b = 0; b < sequences; ++b) out.first.push_back(b * length_);
  return out;
}

const TuningMethod kMultitaskPrompt = {"multitask_prompt_tuning", "MULTITASK_PROMPT_TUNING", create,
                                       [] { return prompt_help<MultitaskConfig>("prompt_tuning_init_ids"); },
                                       3e-2};

}  // namespace graft
