#include "graft/session/intrinsic_run.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/session/tiny_run.h"
#include "tests/temporary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

using test::TinyRun;

Json document(const TinyRun& tiny, const std::vector<std::string>& changes = {}) {
  Json out = tiny.classification({"train.epochs=2", "train.metric=accuracy"});
  out.erase("method");
  out["intrinsic"] = {{"smallest", 50}, {"largest", 500}, {"points_per_decade", 1},           {"refine", 1},
                      {"seeds", 2},     {"share", 0.9},   {"full", {{"learning_rate", 1e-3}}}};
  for (const std::string& change : changes) apply_override(out, change);
  return out;
}

RunReport search(const Json& recipe, Existing existing = Existing::refuse) {
  return intrinsic_run(read_intrinsic_recipe(recipe), {.existing = existing, .command = "graft intrinsic"});
}

/// Trials without what no two machines agree on.
Json outcome(const fs::path& run) {
  Json trials = read_json(run / "trials.json");
  for (Json& trial : trials) trial.erase("seconds");
  return trials;
}

TEST(IntrinsicRun, LeavesResultsFigureNumbersAndTable) {
  const TinyRun tiny;
  const RunReport report = search(document(tiny));
  EXPECT_EQ(report.exit_code, 0);
  for (const char* name :
       {"results.json", "trials.json", "scores.csv", "figure.svg", "table.md", "recipe.yaml"})
    EXPECT_TRUE(fs::exists(tiny.output() / name)) << name;
  const Json results = read_json(tiny.output() / "results.json");
  EXPECT_GT(results["full_score"].get<double>(), 0);
  EXPECT_DOUBLE_EQ(results["threshold"].get<double>(), 0.9 * results["full_score"].get<double>());
  for (const char* method : {"did", "said"}) {
    for (const char* key : {"value", "low", "high"}) EXPECT_TRUE(results["d90"][method].contains(key)) << key;
    EXPECT_EQ(results["d90"][method]["seeds"].size(), 2u);
  }
  EXPECT_EQ(results["head"], "inside");
  EXPECT_FALSE(fs::exists(tiny.output() / "unfinished"));
}

TEST(IntrinsicRun, GoesOnWhereItWasKilled) {
  const TinyRun tiny;
  const Json recipe = document(tiny);
  search(recipe);
  const Json trials = outcome(tiny.output()), results = read_json(tiny.output() / "results.json");
  // As a kill after the third run leaves it.
  Json some = Json::array();
  for (size_t i = 0; i < 3; ++i) some.push_back(read_json(tiny.output() / "trials.json")[i]);
  write_file(tiny.output() / "trials.json", some.dump());
  fs::remove(tiny.output() / "results.json");
  search(recipe, Existing::resume);
  EXPECT_EQ(outcome(tiny.output()), trials);
  EXPECT_EQ(read_json(tiny.output() / "results.json")["d90"], results["d90"]);
}

TEST(IntrinsicRun, AGivenScoreIsNotTrainedFor) {
  const TinyRun tiny;
  search(document(tiny, {"intrinsic.full_score=2", "intrinsic.methods=[did]"}));
  for (const Json& trial : outcome(tiny.output())) EXPECT_EQ(trial["method"], "did");
  const Json results = read_json(tiny.output() / "results.json");
  // An accuracy of 1.8 is out of reach, and said so.
  EXPECT_TRUE(results["d90"]["did"]["value"].is_null());
  EXPECT_TRUE(results["d90"]["did"].contains("note"));
  EXPECT_FALSE(results["d90"].contains("said"));
}

/// Nothing is trained, nor a folder made, for a search that cannot come to its end.
TEST(IntrinsicRun, ErrorsComeBeforeFullFineTuning) {
  const TinyRun tiny;
  for (const auto& [change, error] : std::vector<std::pair<const char*, const char*>>{
           {"intrinsic.method.projektion=dense",
            "[intrinsic.method.projektion] unknown key; did you mean projection?"},
           {"intrinsic.method.projection=sparse", "projection"},
           {"intrinsic.method.target_tensors=nothing", "target_tensors"},
           {"intrinsic.full.learning_rat=1",
            "[intrinsic.full.learning_rat] unknown key; did you mean learning_rate?"},
           {"intrinsic.learning_rates=[-1]", "[intrinsic.learning_rates] -1, expected at least 0"},
           {"intrinsic.smallest=1000", "[intrinsic.largest] 500, expected at least intrinsic.smallest"},
           {"intrinsic={smallest: 5, largest: 20}", "[intrinsic.largest] 20, expected at least"}}) {
    const std::string message =
        test::message_of<UsageError>([&, wrong = change] { search(document(tiny, {wrong})); });
    EXPECT_NE(message.find(error), std::string::npos) << change << ": " << message;
    EXPECT_FALSE(fs::exists(tiny.output())) << change;
  }
}

TEST(IntrinsicRun, RefusesATakenFolderAndAnotherSearch) {
  const TinyRun tiny;
  const std::vector<std::string> quick{"intrinsic.full_score=0.1", "intrinsic.methods=[did]"};
  search(document(tiny, quick));
  EXPECT_THROW(search(document(tiny, quick)), UsageError);
  EXPECT_THROW(search(document(tiny, {"intrinsic.full_score=0.2"}), Existing::resume), UsageError);
  EXPECT_THROW(search(document(tiny, {"train.metric=loss"}), Existing::overwrite), UsageError);
}

}  // namespace
}  // namespace graft
