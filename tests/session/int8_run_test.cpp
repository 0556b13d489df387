// Runs with model.dtype int8.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/io/safetensors.h"
#include "graft/session/bench_generate.h"
#include "graft/session/bench_run.h"
#include "graft/session/eval_run.h"
#include "graft/session/merge_run.h"
#include "graft/session/session.h"
#include "tests/session/tiny_run.h"
#include "tests/temporary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using test::message_of;
using test::TinyRun;
using test::train;

TEST(Int8Run, TrainsEvaluatesAndSaysSo) {
  const TinyRun tiny;
  const RunReport trained = train(tiny.classification({"model.dtype=int8"}));
  EXPECT_EQ(trained.exit_code, 0);
  EXPECT_EQ(read_yaml(tiny.output() / "recipe.yaml")["model"]["dtype"], "int8");
  const RunReport judged = eval_run({.target = tiny.output()});
  const Json results = read_json(tiny.output() / "results.json");
  EXPECT_EQ(judged.document["metrics"]["loss"], results["metrics"]["loss"]);
  EXPECT_TRUE(
      train(tiny.classification({"model.dtype=int8"}), {.existing = Existing::overwrite, .dry_run = true})
          .document.contains("memory_bytes"));
}

TEST(Int8Run, WholeModelsAndUnknownTypesAreRefused) {
  const TinyRun tiny;
  const std::string full = message_of<UsageError>([&] { train(tiny.language_model({"model.dtype=int8"})); });
  EXPECT_NE(full.find("model.dtype"), std::string::npos) << full;
  EXPECT_NE(full.find("int8 with every linear map trained"), std::string::npos) << full;
  EXPECT_FALSE(fs::exists(tiny.output()));
  const std::string other = message_of<UsageError>([&] { train(tiny.classification({"model.dtype=int4"})); });
  EXPECT_NE(other.find("int8"), std::string::npos) << other;
  LoadOptions load;
  EXPECT_NE(message_of<UsageError>([&] { set_dtype(load, "int9"); }).find("did you mean int8"),
            std::string::npos);
}

/// Its trained parts are few; the rest is the checkpoint's, in a type that a file can have.
TEST(Int8Run, AModelThatIsSavedWholeIsNotRounded) {
  const TinyRun tiny;
  train(tiny.language_model({"output=" + tiny.at("base")}));
  Json recipe = tiny.language_model({"method=layernorm", "model.dtype=int8", "model.save_dtype=float32"});
  recipe["model"].erase("from_scratch");
  recipe["model"]["path"] = tiny.at("base");
  train(recipe);
  const TensorMap base = read_safetensors(tiny.folder() / "base" / "model.safetensors");
  const TensorMap saved = read_safetensors(tiny.output() / "model.safetensors");
  const std::string key = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_TRUE(saved.at(key).equal(base.at(key)));
}

TEST(Int8Run, MergedMapsComeFromTheCheckpoint) {
  const TinyRun tiny;
  train(tiny.language_model({"output=" + tiny.at("base")}));
  Json recipe = tiny.language_model(
      {"method={name: lora, r: 2, target_modules: all-linear}", "train.learning_rate=1e-2"});
  recipe["model"] = {{"path", tiny.at("base")}, {"dtype", "int8"}};
  train(recipe);
  SessionOptions options{.model = tiny.at("base"), .adapters = {{tiny.output(), 1}}, .merged = true};
  const Session exact = Session::open(options);
  set_dtype(options.load, "int8");
  const Session rounded = Session::open(options);
  const auto map = [](const Session& session) {
    return dynamic_cast<Linear&>(*session.model().find("model.layers.1.mlp.up_proj")).weight->base;
  };
  EXPECT_TRUE(map(rounded).equal(map(exact)));
  merge_run({.model = tiny.at("base"), .out = tiny.at("merged"), .adapters = {{tiny.output(), 1}}});
  EXPECT_TRUE(read_safetensors(tiny.folder() / "merged" / "model.safetensors")
                  .at("model.layers.1.mlp.up_proj.weight")
                  .equal(map(exact)));
}

TEST(Bench, GeneratesInEveryType) {
  const auto& works = bench_work_table();
  const auto tiny =
      std::find_if(works.begin(), works.end(), [](const BenchWork& w) { return w.name == "tiny"; });
  for (const auto& [dtype, bytes] :
       {std::pair("float32", 4), std::pair("bfloat16", 2), std::pair("int8", 1)}) {
    const GenerateMeasurement m = measure_generation(*tiny, dtype, 1);
    for (const double rate : {m.one, m.eight, m.prompt, m.unmerged, m.unmerged_share, m.prompt_operations})
      EXPECT_GT(rate, 0) << dtype;
    // Two layers: q and o 64², k and v 64 · 32, three maps of 64 · 128; the head.
    EXPECT_EQ(m.weight_bytes, bytes * (2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128) + 64 * 512));
  }
  const RunReport report = bench_run({.works = {"generate/tiny"}, .dtype = "int8", .steps = 1});
  const Json& work = report.document["works"][0];
  EXPECT_EQ(work["work"], "generate/tiny");
  EXPECT_EQ(work["dtype"], "int8");
  for (const char* key : {"tokens_per_second", "share_of_bandwidth", "eight_over_one",
                          "prompt_tokens_per_second", "prompt_share_of_matrix_rate", "unmerged_over_merged"})
    EXPECT_GT(work[key].get<double>(), 0) << key;
  EXPECT_NE(message_of<UsageError>([] { bench_run({.works = {"generate/tini"}}); }).find("generate/tiny"),
            std::string::npos);
  EXPECT_NE(message_of<UsageError>([] { bench_run({.works = {}, .dtype = "int9"}); }).find("int8"),
            std::string::npos);
}

}  // namespace
}  // namespace graft
