#include "graft/session/intrinsic_search.h"

#include <gtest/gtest.h>

#include <map>

#include "graft/base/error.h"
#include "graft/session/intrinsic_report.h"
#include "graft/session/intrinsic_run.h"

namespace graft {
namespace {

using Dimensions = std::vector<int64_t>;

TEST(IntrinsicGrid, IsEvenInLogarithmAndHoldsBothEnds) {
  EXPECT_EQ(logarithmic_grid({.smallest = 10, .largest = 1000, .points_per_decade = 2}, 1),
            (Dimensions{10, 32, 100, 316, 1000}));
  EXPECT_EQ(logarithmic_grid({.smallest = 10, .largest = 1000, .points_per_decade = 2}, 60),
            (Dimensions{100, 316, 1000}));
  EXPECT_EQ(logarithmic_grid({.smallest = 7, .largest = 7}, 1), (Dimensions{7}));
  EXPECT_EQ(logarithmic_grid({.smallest = 1, .largest = 4, .points_per_decade = 20}, 1),
            (Dimensions{1, 2, 3, 4}));
  EXPECT_THROW(logarithmic_grid({.smallest = 10, .largest = 9}, 1), UsageError);
}

/// A machine whose runs reach the score from a seed's own d on.
struct Fake {
  std::map<int64_t, int64_t> needed;
  Dimensions asked;
  RunTrial run() {
    return [this](const IntrinsicTrial& wanted) {
      asked.push_back(wanted.d);
      IntrinsicTrial done = wanted;
      done.reached = wanted.d >= needed.at(wanted.seed);
      return done;
    };
  }
};

TEST(IntrinsicSearch, FindsEachSeedsDimensionByBisection) {
  Fake fake{.needed = {{1, 150}, {2, 700}, {3, 40}}, .asked = {}};
  const IntrinsicSearchConfig config{
      .smallest = 10, .largest = 10000, .points_per_decade = 1, .refine = 20, .seeds = 3};
  const SmallestDimension found = find_smallest_dimension("did", 1, 1, config, fake.run());
  // Twenty bisections leave no number between a miss and a hit.
  EXPECT_EQ(found.seeds, (std::vector<std::optional<int64_t>>{150, 700, 40}));
  EXPECT_EQ(found.value, 150);
  EXPECT_EQ(found.low, 40);
  EXPECT_EQ(found.high, 700);
  EXPECT_FALSE(found.at_grid_start);
}

TEST(IntrinsicSearch, AsksForNoMoreThanItNeeds) {
  Fake fake{.needed = {{1, 150}, {2, 150}}, .asked = {}};
  const IntrinsicSearchConfig config{
      .smallest = 10, .largest = 10000, .points_per_decade = 1, .refine = 1, .seeds = 2};
  find_smallest_dimension("did", 1, 1, config, fake.run());
  // 10, 100, 1000 and the middle; then from 1000 down to the first miss, and the middle.
  EXPECT_EQ(fake.asked, (Dimensions{10, 100, 1000, 316, 1000, 100, 316}));
}

TEST(IntrinsicSearch, SaysWhereTheGridDoesNotReach) {
  Fake fake{.needed = {{1, 50}, {2, 99999}, {3, 99999}}, .asked = {}};
  const IntrinsicSearchConfig config{
      .smallest = 10, .largest = 1000, .points_per_decade = 1, .refine = 0, .seeds = 3};
  const Json json = find_smallest_dimension("said", 1, 1, config, fake.run()).json();
  EXPECT_TRUE(json["value"].is_null());
  EXPECT_EQ(json["low"], 100);
  EXPECT_TRUE(json["high"].is_null());
  EXPECT_NE(json["note"].get<std::string>().find("do not reach"), std::string::npos);
}

TEST(IntrinsicSearch, SaysWhereTheGridsStartReaches) {
  Fake fake{.needed = {{1, 3}}, .asked = {}};
  const IntrinsicSearchConfig config{.smallest = 10, .largest = 1000, .seeds = 1};
  const SmallestDimension found = find_smallest_dimension("did", 1, 1, config, fake.run());
  EXPECT_EQ(found.value, 10);
  EXPECT_TRUE(found.at_grid_start);
  EXPECT_NE(found.json()["note"].get<std::string>().find("upper bound"), std::string::npos);
}

TEST(IntrinsicSearch, TriesLearningRatesInTurnScaledByDimension) {
  std::vector<double> rates;
  const RunTrial run = [&](const IntrinsicTrial& wanted) {
    rates.push_back(wanted.learning_rate);
    IntrinsicTrial done = wanted;
    done.reached = wanted.learning_rate > 0.05;
    return done;
  };
  find_smallest_dimension(
      "did", 1, 1, {.smallest = 250, .largest = 250, .seeds = 1, .learning_rates = {0.01, 0.03, 0.1}}, run);
  ASSERT_EQ(rates.size(), 2u);
  EXPECT_DOUBLE_EQ(rates[0], 0.02);  // (1000 / 250)^½ = 2
  EXPECT_DOUBLE_EQ(rates[1], 0.06);
}

TEST(IntrinsicSearch, SaidsLearningRatesAreItsOwnWhereGiven) {
  std::vector<double> rates;
  const RunTrial run = [&](const IntrinsicTrial& wanted) {
    rates.push_back(wanted.learning_rate);
    return wanted;
  };
  IntrinsicSearchConfig config{
      .smallest = 1000, .largest = 1000, .seeds = 1, .learning_rates = {0.1}, .said_learning_rates = {0.01}};
  find_smallest_dimension("said", 1, 1, config, run);
  find_smallest_dimension("did", 1, 1, config, run);
  config.said_learning_rates = {};
  find_smallest_dimension("said", 1, 1, config, run);
  EXPECT_EQ(rates, (std::vector<double>{0.01, 0.1, 0.1}));
}

TEST(IntrinsicSearch, RefusesAGridBelowWhatAMethodNeeds) {
  Fake fake;
  EXPECT_THROW(find_smallest_dimension("said", 200, 1, {.largest = 100}, fake.run()), UsageError);
}

IntrinsicResult example() {
  IntrinsicResult result{.model = "a <small> one",
                         .task = "glue/mrpc",
                         .metric = "accuracy",
                         .full_score = 0.86,
                         .threshold = 0.774,
                         .d90 = {},
                         .trials = {}};
  IntrinsicTrial trial;
  trial.method = "did";
  trial.d = 100;
  trial.seed = 1;
  trial.score = 0.7;
  result.trials.push_back(trial);
  trial.d = 316;
  trial.score = 0.8;
  trial.reached = true;
  result.trials.push_back(trial);
  result.d90["did"] = {.value = 316, .low = 300, .high = {}, .at_grid_start = false, .seeds = {316, {}, 300}};
  return result;
}

TEST(IntrinsicReport, CsvHasALineARun) {
  EXPECT_EQ(intrinsic_csv(example()),
            "method,d,seed,learning_rate,score,reached,steps,seconds\n"
            "did,100,1,0,0.700000,0,0,0.00\n"
            "did,316,1,0,0.800000,1,0,0.00\n");
}

TEST(IntrinsicReport, TheFigureIsWholeAndEscapesNames) {
  const std::string svg = intrinsic_svg(example());
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_NE(svg.find("</svg>"), std::string::npos);
  EXPECT_NE(svg.find("a &lt;small&gt; one"), std::string::npos);
  EXPECT_NE(svg.find("90 %"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(IntrinsicReport, TheTableStandsBesideThePublishedRows) {
  const std::string table = intrinsic_table(example());
  EXPECT_NE(table.find("| RoBERTa-Large (published) | 207 | 774 | 322 | 774 |"), std::string::npos);
  EXPECT_NE(table.find("| a <small> one | – | – | 316 (300 to –) | – |"), std::string::npos);
  IntrinsicResult other = example();
  other.task = "sequence_classification";
  EXPECT_NE(intrinsic_table(other).find("DID SEQUENCE_CLASSIFICATION"), std::string::npos);
}

TEST(IntrinsicRecipe, IsReadStrictly) {
  const auto read = [](const char* yaml) { return read_intrinsic_recipe(parse_yaml(yaml, "test")); };
  const IntrinsicRecipe recipe = read("{model: m, output: o, intrinsic: {seeds: 2, methods: [did]}}");
  EXPECT_EQ(recipe.search.seeds, 2);
  EXPECT_EQ(recipe.search.methods, std::vector<std::string>{"did"});
  EXPECT_THROW(read("{model: m, output: o, method: did}"), UsageError);
  EXPECT_THROW(read("{model: m, output: o, intrinsic: {sedes: 2}}"), UsageError);
  EXPECT_THROW(read("{model: m, output: o, intrinsic: {methods: [lora]}}"), UsageError);
  EXPECT_THROW(read("{model: m, output: o, intrinsic: {learning_rates: []}}"), UsageError);
}

}  // namespace
}  // namespace graft
