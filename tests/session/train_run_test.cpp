#include "graft/session/train_run.h"

#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include <sstream>

#include "graft/base/error.h"
#include "graft/io/safetensors.h"
#include "graft/session/eval_run.h"
#include "graft/session/inspect.h"
#include "graft/session/memory_plan.h"
#include "graft/session/merge_run.h"
#include "tests/session/tiny_run.h"
#include "tests/temporary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using test::message_of;
using test::TinyRun;
using test::train;

std::vector<Json> lines_of(const fs::path& path) {
  std::vector<Json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  return lines;
}

TEST(TrainRun, LeavesARunFolder) {
  const TinyRun tiny;
  const RunReport report = train(tiny.classification());
  EXPECT_EQ(report.exit_code, 0);
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "recipe.yaml", "results.json",
                           "metrics.jsonl", "README.md", "checkpoints/step-30"}) {
    EXPECT_TRUE(fs::exists(tiny.output() / name)) << name;
  }
  const Json results = read_json(tiny.output() / "results.json");
  for (const char* key :
       {"metrics", "best_step", "steps", "trainable_parameters", "total_parameters",
        "useful_tokens_per_second", "seconds_to_first_step", "peak_memory_bytes", "versions", "machine"}) {
    EXPECT_TRUE(results.contains(key)) << key;
  }
  EXPECT_EQ(results["steps"], 30);
  // Two layers, query and value: r (16 + 16) each; the head 2 · 16 + 2.
  EXPECT_EQ(results["trainable_parameters"], 2 * 2 * 2 * 32 + 34);
  EXPECT_TRUE(results["metrics"].contains("accuracy"));
  EXPECT_EQ(lines_of(tiny.output() / "metrics.jsonl").size(), 30u);
  EXPECT_NE(read_file(tiny.output() / "README.md").find("library_name: peft"), std::string::npos);
}

TEST(TrainRun, TheEffectiveRecipeMakesTheSameRun) {
  const TinyRun tiny;
  train(tiny.classification());
  const std::string weights = read_file(tiny.output() / "adapter_model.safetensors");
  const std::string recipe = read_file(tiny.output() / "recipe.yaml");
  train(read_yaml(tiny.output() / "recipe.yaml"), {.existing = Existing::overwrite});
  EXPECT_EQ(read_file(tiny.output() / "adapter_model.safetensors"), weights);
  EXPECT_EQ(read_file(tiny.output() / "recipe.yaml"), recipe);
}

TEST(TrainRun, WithoutValidationTheResultIsTheTrainingLoss) {
  const TinyRun tiny;
  const RunReport report = train(tiny.classification({"data.validation="}));
  const std::string wanted =
      fmt::format("step 30 of 30: training loss {:.4f}, ", report.document["train_loss"].get<double>());
  EXPECT_NE(report.text.find(wanted), std::string::npos) << report.text;
  EXPECT_LT(report.text.find("tokens/s\n"), report.text.find("parameters trained")) << report.text;
}

TEST(TrainRun, EvaluatingTheRunGivesTheBestMetrics) {
  const TinyRun tiny;
  const RunReport trained = train(tiny.classification());
  const fs::path predictions = tiny.folder() / "predictions.jsonl";
  const RunReport report = eval_run({.target = tiny.output(), .predictions = predictions});
  EXPECT_EQ(report.document["metrics"], trained.document["metrics"]);
  const auto rows = lines_of(predictions);
  ASSERT_EQ(rows.size(), 12u);
  double right = 0;
  for (const Json& row : rows) right += row["label"] == row["prediction"] ? 1 : 0;
  EXPECT_DOUBLE_EQ(right / 12, report.document["metrics"]["accuracy"].get<double>());
}

/// Biases that the base has no place for.
TEST(TrainRun, AddedBiasesAreInTheRunsFile) {
  const TinyRun tiny;
  Json recipe = tiny.language_model();
  recipe["method"] = {{"name", "bitfit"}, {"add_biases", true}};
  recipe["data"]["validation"] = tiny.at("train.txt");
  recipe["train"]["learning_rate"] = 0.1;
  const RunReport trained = train(recipe);
  EXPECT_LT(trained.document["metrics"]["loss"].get<double>(), 3.0);
  EXPECT_EQ(eval_run({.target = tiny.output()}).document["metrics"], trained.document["metrics"]);
}

TEST(TrainRun, CompanyAndOrderOfSequencesChangeNothing) {
  const TinyRun tiny;
  train(tiny.classification());
  const auto loss = [&](const std::vector<std::string>& overrides) {
    return eval_run({.target = tiny.output(), .overrides = overrides})
        .document["metrics"]["loss"]
        .get<double>();
  };
  const double together = loss({"train.batch_size=12"});
  // Sums of float32 in other groups.
  EXPECT_NEAR(loss({"train.batch_size=1"}), together, 1e-6);
  EXPECT_NEAR(loss({"train.batch_tokens=20"}), together, 1e-6);
  std::string reversed;
  std::istringstream lines(read_file(tiny.folder() / "validation.jsonl"));
  for (std::string line; std::getline(lines, line);) reversed = line + "\n" + reversed;
  write_file(tiny.folder() / "reversed.jsonl", reversed);
  EXPECT_NEAR(loss({"data.validation=" + tiny.at("reversed.jsonl")}), together, 1e-6);
}

TEST(TrainRun, FullTrainingLeavesAModel) {
  const TinyRun tiny;
  const RunReport trained = train(tiny.language_model({"data.validation=" + tiny.at("train.txt")}));
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"})
    EXPECT_TRUE(fs::exists(tiny.output() / name)) << name;
  const RunReport report = eval_run({.target = tiny.output()});
  EXPECT_EQ(report.document["metrics"]["loss"], trained.document["metrics"]["loss"]);
  EXPECT_LT(trained.document["metrics"]["perplexity"].get<double>(), 21);  // a uniform guess
}

TEST(TrainRun, ADryRunSaysWhatWouldBeTrainedAndWritesNothing) {
  const TinyRun tiny;
  const RunReport report = train(tiny.classification(), {.dry_run = true});
  EXPECT_EQ(report.document["steps"], 30);
  EXPECT_EQ(report.document["trainable_parameters"], 290);
  EXPECT_EQ(report.document["trained"]["classifier.weight"]["parameters"], 32);
  EXPECT_GT(report.document["memory_bytes"]["total"].get<int64_t>(), 0);
  EXPECT_NE(report.text.find("learning rate 0.01"), std::string::npos) << report.text;
  EXPECT_FALSE(fs::exists(tiny.output()));
}

TEST(TrainRun, RecomputedBlocksTrainTheSameBits) {
  const TinyRun tiny;
  const auto trained = [&](const Json& document, const char* file) {
    train(document, {.existing = Existing::overwrite});
    return read_file(tiny.output() / file);
  };
  const char* const adapter = "adapter_model.safetensors";
  const std::string kept = trained(tiny.classification({"train.checkpointing=false"}), adapter);
  EXPECT_EQ(trained(tiny.classification({"train.checkpointing=true"}), adapter), kept);
  EXPECT_EQ(trained(tiny.classification({"train.memory=1MB"}), adapter), kept) << "too little for any run";
  EXPECT_EQ(trained(tiny.classification({"train.memory=1TB"}), adapter), kept);
  EXPECT_NE(trained(tiny.classification({"train.seed=2"}), adapter), kept);
  const std::string whole = trained(tiny.language_model(), "model.safetensors");
  EXPECT_EQ(trained(tiny.language_model({"train.checkpointing=true"}), "model.safetensors"), whole);
}

TEST(TrainRun, MemoryDecidesHowManyBlocksAreRecomputed) {
  const TinyRun tiny;
  const auto blocks = [&](const std::vector<std::string>& changes) {
    const RunReport report = train(tiny.classification(changes), {.dry_run = true});
    return report.document["memory_bytes"]["recomputed_blocks"].get<int64_t>();
  };
  EXPECT_EQ(blocks({}), 0);
  EXPECT_EQ(blocks({"train.memory=1TiB"}), 0);
  EXPECT_EQ(blocks({"train.memory=1MiB"}), 1);
  EXPECT_EQ(blocks({"train.memory=1MiB", "train.checkpointing=false"}), 0);
  EXPECT_EQ(blocks({"train.checkpointing=true"}), 1);
  for (const char* wrong : {"8 bananas", "GiB", "-1GB", "0"}) {
    EXPECT_NE(
        message_of<UsageError>([&] { blocks({std::string("train.memory=") + wrong}); }).find("train.memory"),
        std::string::npos)
        << wrong;
  }
}

TEST(MemoryPlan, ReadsSizes) {
  EXPECT_EQ(parse_bytes("8GiB", "memory"), int64_t{8} << 30);
  EXPECT_EQ(parse_bytes("1.5 GB", "memory"), 1'500'000'000);
  EXPECT_EQ(parse_bytes("4096", "memory"), 4096);
}

TEST(TrainRun, EveryOptimizerTrains) {
  const TinyRun tiny;
  const std::vector<std::vector<std::string>> rows = {
      {"train.optimizer=adafactor", "train.learning_rate=0.01"},
      {"train.optimizer=lion", "train.learning_rate=0.003"},
      {"train.optimizer=sgd", "train.learning_rate=0.5", "train.momentum=0.9"},
      {"model.dtype=bfloat16", "train.master_weights=none", "train.learning_rate=0.01"}};
  for (std::vector<std::string> changes : rows) {
    const std::string name = changes[0];
    changes.push_back("data.validation=" + tiny.at("train.txt"));
    const RunReport report = train(tiny.language_model(changes), {.existing = Existing::overwrite});
    EXPECT_LT(report.document["metrics"]["perplexity"].get<double>(), 19) << name;  // a uniform guess: 21
  }
}

TEST(TrainRun, MasterWeightsAreLeftOutOnlyOfBfloat16Models) {
  const TinyRun tiny;
  const auto call = [&] { train(tiny.language_model({"train.master_weights=none"})); };
  EXPECT_NE(message_of<UsageError>(call).find("expected bfloat16"), std::string::npos);
}

TEST(TrainRun, AFinishedRunIsNotTrainedAgain) {
  const TinyRun tiny;
  const RunReport first = train(tiny.classification());
  const auto written = fs::last_write_time(tiny.output() / "adapter_model.safetensors");
  const RunReport again = train(tiny.classification(), {.existing = Existing::resume});
  EXPECT_EQ(again.document, first.document);
  EXPECT_EQ(fs::last_write_time(tiny.output() / "adapter_model.safetensors"), written);
}

TEST(TrainRun, ResumingAnotherRunIsRefused) {
  const TinyRun tiny;
  train(tiny.classification());
  const std::string error = message_of<UsageError>(
      [&] { train(tiny.classification({"train.learning_rate=0.5"}), {.existing = Existing::resume}); });
  EXPECT_NE(error.find("train.learning_rate: 0.5, was 0.01"), std::string::npos) << error;
}

TEST(TrainRun, ErrorsComeBeforeAnythingIsWritten) {
  const TinyRun tiny;
  const auto usage = [&](const std::vector<std::string>& changes) {
    return message_of<UsageError>([&] { train(tiny.classification(changes)); });
  };
  const auto data = [&](const std::vector<std::string>& changes) {
    return message_of<DataError>([&] { train(tiny.classification(changes)); });
  };
  EXPECT_NE(usage({"task.name=glue/mrcp"}).find("glue/mrpc"), std::string::npos);
  EXPECT_NE(usage({"method.name=lara"}).find("lora"), std::string::npos);
  EXPECT_NE(usage({"method.target_modules=[quary]"}).find("query"), std::string::npos);
  EXPECT_NE(usage({"method.rank=3"}).find("method"), std::string::npos);
  EXPECT_NE(usage({"data.training=x"}).find("train"), std::string::npos);
  EXPECT_NE(usage({"train.metric=acuracy"}).find("accuracy"), std::string::npos);
  EXPECT_NE(usage({"output="}).find("output"), std::string::npos);
  EXPECT_NE(usage({"data.train="}).find("data.train"), std::string::npos);
  EXPECT_NE(data({"data.train=" + tiny.at("nothing.jsonl")}).find("nothing.jsonl"), std::string::npos);
  EXPECT_NE(data({"model.from_scratch.config=" + tiny.at("nothing.json")}).find("nothing.json"),
            std::string::npos);
  write_file(tiny.folder() / "bad.jsonl",
             "{\"text\": \"a\", \"label\": \"no\"}\n{\"text\": \"b\", \"label\"\n");
  EXPECT_NE(data({"data.train=" + tiny.at("bad.jsonl")}).find("bad.jsonl:2"), std::string::npos);
  write_file(tiny.folder() / "other.jsonl", "{\"text\": \"a\", \"label\": \"maybe\"}\n");
  EXPECT_NE(data({"data.validation=" + tiny.at("other.jsonl")}).find("other.jsonl:1"), std::string::npos);
  write_file(tiny.folder() / "empty.jsonl", "");
  EXPECT_NE(data({"data.train=" + tiny.at("empty.jsonl")}).find("empty.jsonl"), std::string::npos);
  write_file(tiny.folder() / "unlabelled.jsonl", "{\"text\": \"a\"}\n");
  EXPECT_NE(data({"data.validation=" + tiny.at("unlabelled.jsonl")}).find("no labels"), std::string::npos);
  EXPECT_FALSE(fs::exists(tiny.output()));
}

TEST(TrainRun, ATakenFolderIsRefusedAndOverwrittenOnRequest) {
  const TinyRun tiny;
  train(tiny.classification());
  EXPECT_NE(message_of<UsageError>([&] { train(tiny.classification()); }).find("--overwrite"),
            std::string::npos);
  EXPECT_EQ(
      train(tiny.classification({"train.epochs=1"}), {.existing = Existing::overwrite}).document["steps"],
      10);
}

TEST(TrainRun, AccumulationEqualsABigBatch) {
  const TinyRun tiny;
  // No dropout: its draws are by batch. The order of sums differs, so last bits do.
  const std::vector<std::string> common{"method.lora_dropout=0",
                                        "model.from_scratch.config=" + tiny.at("plain.json"),
                                        "train.shuffle=false", "train.epochs=1"};
  Json config = read_json(tiny.at("encoder.json"));
  config["hidden_dropout_prob"] = config["attention_probs_dropout_prob"] = 0.0;
  write_file(tiny.folder() / "plain.json", config.dump());
  const auto weights = [&](const std::string& name, std::vector<std::string> changes) {
    changes.insert(changes.end(), common.begin(), common.end());
    changes.push_back("output=" + tiny.at(name));
    train(tiny.classification(changes));
    return read_safetensors(tiny.folder() / name / "adapter_model.safetensors");
  };
  const TensorMap big = weights("big", {"train.batch_size=8"});
  const TensorMap small = weights("small", {"train.batch_size=2", "train.gradient_accumulation_steps=4"});
  for (const auto& [key, tensor] : big) {
    // Five steps of 1e-2: an Adam step of a vanishing gradient may differ by a share of it.
    EXPECT_LT((tensor - small.at(key)).abs().max().item<double>(), 2e-4) << key;
  }
}

TEST(TrainRun, MergingARunGivesItsLogitsAndATokenizer) {
  const TinyRun tiny;
  train(tiny.language_model({"output=" + tiny.at("base")}));
  Json recipe = tiny.language_model(
      {"method={name: lora, r: 2, target_modules: all-linear}", "train.learning_rate=1e-2"});
  recipe["model"] = {{"path", tiny.at("base")}};
  train(recipe);
  const RunReport merged =
      merge_run({.model = tiny.at("base"), .out = tiny.at("merged"), .adapters = {{tiny.output(), 1}}});
  EXPECT_GT(merged.document["largest_logit"].get<double>(), 0);
  // Sums of 16 and 32 products in float32, in another order.
  EXPECT_LT(merged.document["largest_logit_difference"].get<double>(), 1e-5);
  EXPECT_TRUE(fs::exists(tiny.folder() / "merged" / "tokenizer.json"));
  const RunReport half = merge_run({.model = tiny.at("base"),
                                    .out = tiny.at("half"),
                                    .adapters = {{tiny.output(), 0.25}, {tiny.output(), 0.25}}});
  const TensorMap base = read_safetensors(tiny.folder() / "base" / "model.safetensors");
  const TensorMap whole = read_safetensors(tiny.folder() / "merged" / "model.safetensors");
  const TensorMap part = read_safetensors(tiny.folder() / "half" / "model.safetensors");
  const std::string key = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_GT((whole.at(key) - base.at(key)).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(at::allclose(part.at(key), (base.at(key) + whole.at(key)) / 2, 1e-5, 1e-6));
  EXPECT_NE(
      message_of<UsageError>([&] {
        merge_run({.model = tiny.at("base"), .out = tiny.at("merged"), .adapters = {{tiny.output(), 1}}});
      }).find("merged"),
      std::string::npos);
}

TEST(TrainRun, InspectKnowsRunsAdaptersModelsAndFiles) {
  const TinyRun tiny;
  train(tiny.language_model({"output=" + tiny.at("base")}));
  train(tiny.classification());
  EXPECT_EQ(inspect(tiny.output()).document["kind"], "run");
  EXPECT_EQ(inspect(tiny.output()).document["parameters"], 290);
  EXPECT_EQ(inspect(tiny.output() / "adapter_model.safetensors").document["kind"], "safetensors");
  fs::remove(tiny.output() / "recipe.yaml");
  EXPECT_EQ(inspect(tiny.output()).document["kind"], "adapter");
  fs::remove(tiny.folder() / "base" / "recipe.yaml");
  const Json model = inspect(tiny.folder() / "base").document;
  EXPECT_EQ(model["kind"], "model");
  EXPECT_EQ(model["head"], "causal_lm");
  EXPECT_EQ(model["target_modules"]["q_proj"]["count"], 2);
  EXPECT_THROW(inspect(tiny.folder() / "nothing"), DataError);
  EXPECT_THROW(inspect(tiny.folder()), DataError);
}

}  // namespace
}  // namespace graft
