#include "graft/session/written_answers.h"

#include "graft/generate/generator.h"
#include "graft/tasks/answer_judge.h"

namespace graft {
namespace {

std::vector<std::vector<int64_t>> answers_of(const Experiment& experiment, const Adapter* adapter,
                                             const AnswerJudge& judge,
                                             const std::vector<Features>& features) {
  std::vector<std::vector<int64_t>> prompts;
  for (const Features& one : features) prompts.push_back(one.input_ids);
  Model& model = experiment.model();
  if (adapter) refresh_stand_ins(*adapter, model);
  GenerateConfig config{.max_new_tokens = judge.answer_length(),
                        .eos = {judge.end_id()},
                        .batch_size = experiment.recipe().train.batch_size};
  if (!model.name_or_path.empty()) config.decoder_start = decoder_start_id(model.name_or_path);
  std::vector<std::vector<int64_t>> answers;
  for (Generated& one : Generator(model, adapter, nullptr).run(prompts, config))
    answers.push_back(std::move(one.ids));
  return answers;
}

}  // namespace

Evaluation evaluate_split(const Experiment& experiment, const Adapter* adapter, Split split) {
  const std::vector<Features>& features = experiment.features(split);
  const Recipe& recipe = experiment.recipe();
  Evaluation out =
      evaluate(experiment.model(), adapter, experiment.task(), features,
               {.batch_size = recipe.train.batch_size, .batch_tokens = recipe.train.batch_tokens});
  const auto* judge = dynamic_cast<const AnswerJudge*>(&experiment.task());
  if (judge == nullptr || judge->answer_length() == 0 || features.empty()) return out;
  const std::vector<Example> examples = read_examples(
      split_path(recipe.data, split), source_options(recipe.data, recipe.task.value("name", ""), split));
  const auto judged = judge->judge(examples, answers_of(experiment, adapter, *judge, features));
  out.metrics.insert(out.metrics.end(), judged.values.begin(), judged.values.end());
  out.predictions = judged.predictions;
  return out;
}

}  // namespace graft
