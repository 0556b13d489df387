#include "graft/tasks/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "graft/base/json.h"
#include "tests/shared.h"

namespace graft {
namespace {

using Labels = std::vector<int64_t>;
using Values = std::vector<double>;

TEST(Scores, AccuracyAndF1OfSmallCases) {
  EXPECT_EQ(accuracy({1, 0, 1, 1}, {1, 1, 1, 0}), 0.5);
  EXPECT_EQ(accuracy({}, {}), 0);
  EXPECT_DOUBLE_EQ(f1({1, 0, 1, 1}, {1, 1, 1, 0}, 1), 2.0 * 2 / (3 + 3));
  EXPECT_EQ(f1({0, 0}, {0, 0}, 1), 0);
  EXPECT_DOUBLE_EQ(f1_macro({0, 1, 2}, {0, 1, 1}), (1.0 + 2.0 / 3 + 0) / 3);
}

TEST(Scores, CorrelationsOfConstants) {
  EXPECT_TRUE(std::isnan(pearson({1, 1, 1}, {1, 2, 3})));
  EXPECT_TRUE(std::isnan(spearman({1, 2, 3}, {2, 2, 2})));
  EXPECT_TRUE(std::isnan(pearson({1}, {1})));
  EXPECT_EQ(matthews({1, 1, 0}, {1, 1, 1}), 0);
}

TEST(Scores, TiesShareTheirMeanRank) {
  // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
  EXPECT_NEAR(spearman({1, 2, 2, 3}, {1, 2, 3, 4}), 4.5 / std::sqrt(4.5 * 5), 1e-15);
}

TEST(Scores, PearsonIsSafeAtBothEndsOfTheRange) {
  EXPECT_NEAR(pearson({1e-200, 2e-200, 3e-200}, {1, 2, 3}), 1, 1e-12);
  EXPECT_NEAR(pearson({1e200, 2e200, 3e200}, {3, 2, 1}), -1, 1e-12);
}

/// Expected numbers are doubles computed in another order: a few ulps.
constexpr double kTolerance = 1e-12;

void expect_value(double got, const Json& want, const std::string& what) {
  if (want.is_string()) {
    EXPECT_TRUE(std::isnan(got)) << what << ": " << got;
  } else {
    EXPECT_NEAR(got, want.get<double>(), kTolerance) << what;
  }
}

TEST(Scores, EqualScikitLearnAndScipy) {
  GRAFT_NEED(test::shared_dir());
  std::ifstream file(test::shared_dir() / "goldens-text" / "metrics.jsonl");
  ASSERT_TRUE(file) << "no metrics.jsonl";
  int64_t checked = 0;
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    const std::string what = row["metric"].get<std::string>() + " " + row.value("i", Json()).dump();
    if (row["metric"] == "classification") {
      const auto labels = row["label"].get<Labels>(), predicted = row["pred"].get<Labels>();
      const Json& value = row["value"];
      expect_value(accuracy(labels, predicted), value["accuracy"], what);
      expect_value(matthews(labels, predicted), value["matthews"], what);
      expect_value(f1_macro(labels, predicted), value["f1_macro"], what);
      if (value.contains("f1_binary")) expect_value(f1(labels, predicted, 1), value["f1_binary"], what);
      ++checked;
    } else if (row["metric"] == "correlation") {
      const auto x = row["x"].get<Values>(), y = row["y"].get<Values>();
      expect_value(pearson(x, y), row["value"]["pearson"], what + " pearson");
      expect_value(spearman(x, y), row["value"]["spearman"], what + " spearman");
      ++checked;
    }
  }
  EXPECT_GT(checked, 50);
}

TEST(Scores, EqualTheBundlesVectors) {
  GRAFT_NEED(test::data_dir());
  std::ifstream file(test::data_dir() / "data" / "metrics" / "glue" / "vectors.json");
  const Json rows = Json::parse(file);
  for (const Json& row : rows) {
    const std::string metric = row["metric"];
    if (metric == "pearson" || metric == "spearman") {
      const auto x = row["x"].get<Values>(), y = row["y"].get<Values>();
      expect_value(metric == "pearson" ? pearson(x, y) : spearman(x, y), row["value"], metric);
      continue;
    }
    const auto labels = row["label"].get<Labels>(), predicted = row["pred"].get<Labels>();
    const double got = metric == "accuracy" ? accuracy(labels, predicted)
                       : metric == "f1"     ? f1(labels, predicted, 1)
                                            : matthews(labels, predicted);
    expect_value(got, row["value"], metric);
  }
  EXPECT_EQ(rows.size(), 7u);
}

}  // namespace
}  // namespace graft
