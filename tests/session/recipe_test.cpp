#include "graft/session/recipe.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/field_help.h"
#include "tests/temporary.h"

namespace graft {
namespace {

Json document_of(const std::string& yaml) { return parse_yaml(yaml, "test"); }

std::string error_of(const std::string& yaml) {
  return test::message_of<UsageError>([&] { read_recipe(document_of(yaml)); });
}

TEST(Recipe, ReadsShortForms) {
  const Recipe recipe = read_recipe(document_of("{model: m, method: lora, task: causal_lm, output: o}"));
  EXPECT_EQ(recipe.model.path, "m");
  EXPECT_EQ(recipe.method["name"], "lora");
  EXPECT_EQ(read_recipe(document_of("{model: m, method: [{name: lora, r: 4}]}")).method["r"], 4);
}

TEST(Recipe, ReadsNumbersAsPeopleWriteThem) {
  const Recipe recipe = read_recipe(
      document_of("{model: {path: m, dtype: bfloat16}, train: {learning_rate: 4e-4, epochs: 3, seed: 1}}"));
  EXPECT_DOUBLE_EQ(recipe.train.learning_rate, 4e-4);
  EXPECT_EQ(recipe.train.epochs, 3);
  EXPECT_EQ(recipe.model.dtype, "bfloat16");
}

TEST(Recipe, TheEffectiveRecipeReadsBackAsTheSame) {
  const Recipe recipe =
      read_recipe(document_of("{model: m, train: {learning_rate: 1e-3, warmup_ratio: 0.06}, output: o}"));
  const Json document = recipe_document(recipe);
  EXPECT_EQ(recipe_document(read_recipe(document)), document);
  EXPECT_EQ(recipe_document(read_recipe(parse_yaml(to_yaml(document), "test"))), document);
}

TEST(Recipe, ErrorsNameTheKeyAndTheNearest) {
  EXPECT_NE(error_of("{model: m, train: {learning_rat: 1}}").find("learning_rate"), std::string::npos);
  EXPECT_NE(error_of("{model: m, trian: {}}").find("train"), std::string::npos);
  EXPECT_NE(error_of("{model: m, train: {batch_size: 0}}").find("train.batch_size"), std::string::npos);
  EXPECT_NE(error_of("{model: m, train: {schedule: square}}").find("cosine"), std::string::npos);
  EXPECT_NE(error_of("{model: m, train: {epochs: many}}").find("train.epochs"), std::string::npos);
  EXPECT_NE(error_of("{train: {}}").find("model.path"), std::string::npos);
  EXPECT_NE(error_of("{model: {path: m, from_scratch: {config: c}}}").find("both"), std::string::npos);
  EXPECT_NE(error_of("{model: m, method: [lora, {r: 4}]}").find("name"), std::string::npos);
  EXPECT_NE(error_of("{model: m, method: {r: 4}}").find("method.name"), std::string::npos);
  EXPECT_NE(error_of("[1, 2]").find("mapping"), std::string::npos);
}

TEST(Recipe, NamesOfOtherProgramsAreKnown) {
  for (const auto& [yaml, error] : std::vector<std::pair<const char*, const char*>>{
           {"{model: m, train: {lr: 1}}", "[recipe.train.lr] unknown key; did you mean learning_rate?"},
           {"{model: m, num_train_epochs: 1}",
            "[recipe.num_train_epochs] unknown key; did you mean train.epochs?"},
           {"{model: m, train: {per_device_train_batch_size: 1}}",
            "[recipe.train.per_device_train_batch_size] unknown key; did you mean batch_size?"},
           {"{model_name_or_path: m}", "[recipe.model_name_or_path] unknown key; did you mean model.path?"},
           {"{model: m, finetuning_type: lora}",
            "[recipe.finetuning_type] unknown key; did you mean method?"},
           {"{model: m, method: {name: lora, lora_rank: 4}}",
            "[method.lora_rank] unknown key; did you mean r?"},
           {"{model: m, lora_target: all}",
            "[recipe.lora_target] unknown key; did you mean method.target_modules?"},
           {"{model: m, task: {name: instruction, cutoff_len: 9}}",
            "[task.cutoff_len] unknown key; did you mean max_length?"},
           // graft's own names in another part.
           {"{model: m, learning_rate: 1}",
            "[recipe.learning_rate] unknown key; did you mean train.learning_rate?"},
           {"{model: m, method: [lora, {name: houlsby, seed: 1}]}",
            "[method.seed] unknown key; did you mean train.seed?"}}) {
    EXPECT_EQ(error_of(yaml), error);
  }
  // LoHa's own key has the foreign name.
  EXPECT_NO_THROW(read_recipe(document_of("{model: m, method: {name: loha, alpha: 4}}")));
}

TEST(Recipe, KeysWithoutAValueKeepTheirDefault) {
  const Recipe recipe =
      read_recipe(document_of("{model: m, data: {validation: }, train: {epochs: }, output: }"));
  EXPECT_EQ(recipe.data.validation, "");
  EXPECT_EQ(recipe.train.epochs, 3);
  EXPECT_EQ(recipe.output, "");
}

TEST(Recipe, DefaultsDependOnTaskAndMethod) {
  const auto rate = [](const std::string& yaml) {
    return read_recipe(document_of(yaml)).train.learning_rate;
  };
  EXPECT_EQ(rate("{model: m, task: glue/mrpc}"), 4e-4);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: full}"), 2e-5);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: prompt_tuning}"), 3e-2);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: p_tuning}"), 1e-3);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: prefix_tuning}"), 5e-3);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: bitfit}"), 1e-3);
  EXPECT_EQ(rate("{model: m, task: glue/mrpc, method: prompt_tuning, train: {learning_rate: 1e-3}}"), 1e-3);
  EXPECT_EQ(rate("{model: {from_scratch: {config: c}}, task: causal_lm, method: full}"), 1e-3);
  EXPECT_EQ(rate("{model: m, task: causal_lm, train: {learning_rate: 7}}"), 7);
  EXPECT_EQ(
      read_recipe(document_of("{model: m, task: causal_lm, train: {warmup_steps: 5}}")).train.warmup_ratio,
      0);
}

TEST(Recipe, PresetsFillInColumnsThatTheRecipeDoesNotName) {
  const Recipe recipe = read_recipe(document_of("{model: m, task: glue/mrpc, data: {train: t}}"));
  EXPECT_EQ(recipe.data.column("text", ""), "#1 String");
  EXPECT_EQ(recipe.task["labels"], (Json{"0", "1"}));
  const Recipe own =
      read_recipe(document_of("{model: m, task: glue/mrpc, data: {columns: {text: a, label: b}}}"));
  EXPECT_EQ(own.data.column("text", ""), "a");
}

TEST(Recipe, HelpFindsKeysAndParts) {
  const auto text_of = [](const std::string& key) { return help_text(rows_of(recipe_help(), key)); };
  EXPECT_NE(text_of("learning_rate").find("train.learning_rate"), std::string::npos);
  EXPECT_NE(text_of("train").find("train.max_grad_norm"), std::string::npos);
  EXPECT_NE(text_of("").find("model.dtype"), std::string::npos);
  EXPECT_NE(
      text_of("method.lora_alpha").find("method.lora_alpha = 8.0  (a number)\n    (lora, lora_fa, adalora) "),
      std::string::npos)
      << text_of("method.lora_alpha");
  EXPECT_NE(text_of("method.r").find("method.r = 8  (an integer, at least 1)\n"), std::string::npos);
  EXPECT_NE(text_of("method.r").find("vera"), std::string::npos);
  // Presets' values are their methods' defaults.
  EXPECT_NE(text_of("method.reduction_factor").find("method.reduction_factor = 2\n    (parallel) "),
            std::string::npos)
      << text_of("method.reduction_factor");
  try {
    text_of("train.learning_rat");
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("train.learning_rate"), std::string::npos);
  }
}

TEST(Recipe, DifferencesLeaveOutWhatMayChange) {
  const Json a = recipe_document(
      read_recipe(document_of("{model: m, train: {seed: 1, threads: 1, keep: 3}, output: x}")));
  const Json b = recipe_document(read_recipe(document_of("{model: m, train: {seed: 2}, output: y}")));
  EXPECT_EQ(differences(a, b), (std::vector<std::string>{"train.seed: 1, was 2"}));
  EXPECT_TRUE(differences(a, a).empty());
}

}  // namespace
}  // namespace graft
