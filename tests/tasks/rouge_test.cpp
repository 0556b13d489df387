#include "graft/tasks/rouge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "graft/base/json.h"
#include "graft/tasks/porter_stemmer.h"
#include "tests/shared.h"

namespace graft {
namespace {

/// Each step of the algorithm, its exceptions, and the extensions. Expected: worked out by hand from the
/// rules.
TEST(PorterStemmer, Steps) {
  const std::vector<std::pair<const char*, const char*>> words = {{"caresses", "caress"},
                                                                  {"ponies", "poni"},
                                                                  {"ties", "tie"},
                                                                  {"cats", "cat"},
                                                                  {"feed", "feed"},
                                                                  {"agreed", "agre"},
                                                                  {"plastered", "plaster"},
                                                                  {"motoring", "motor"},
                                                                  {"sing", "sing"},
                                                                  {"conflated", "conflat"},
                                                                  {"troubled", "troubl"},
                                                                  {"sized", "size"},
                                                                  {"hopping", "hop"},
                                                                  {"falling", "fall"},
                                                                  {"hissing", "hiss"},
                                                                  {"filing", "file"},
                                                                  {"happy", "happi"},
                                                                  {"enjoy", "enjoy"},
                                                                  {"relational", "relat"},
                                                                  {"radically", "radic"},
                                                                  {"geology", "geolog"},
                                                                  {"hopefulness", "hope"},
                                                                  {"formality", "formal"},
                                                                  {"triplicate", "triplic"},
                                                                  {"adjustment", "adjust"},
                                                                  {"adoption", "adopt"},
                                                                  {"probate", "probat"},
                                                                  {"cease", "ceas"},
                                                                  {"controlling", "control"},
                                                                  {"skies", "sky"},
                                                                  {"dying", "die"},
                                                                  {"spied", "spi"},
                                                                  {"died", "die"},
                                                                  {"by", "by"},
                                                                  {"", ""}};
  for (const auto& [word, stem] : words) EXPECT_EQ(porter_stem(word), stem) << word;
}

TEST(Rouge, TokensAreAsciiWords) {
  using Tokens = std::vector<std::string>;
  EXPECT_EQ(rouge_tokens("It's caf\u00e9 3.14!", false), (Tokens{"it", "s", "caf", "3", "14"}));
  EXPECT_EQ(rouge_tokens("Running runs 212\u212a \u0130s", true), (Tokens{"run", "run", "212k", "i", "s"}));
}

/// "the cat sat" and "the cat on the mat": two words of three and five, one pair of two and four.
TEST(Rouge, SmallCase) {
  const RougeScores scores = rouge("the cat sat", "the cat on the mat", false);
  EXPECT_DOUBLE_EQ(scores.rouge1.precision, 2.0 / 5);
  EXPECT_DOUBLE_EQ(scores.rouge1.recall, 2.0 / 3);
  EXPECT_DOUBLE_EQ(scores.rouge1.fmeasure, 0.5);
  EXPECT_DOUBLE_EQ(scores.rouge2.precision, 1.0 / 4);
  EXPECT_DOUBLE_EQ(scores.rouge2.recall, 1.0 / 2);
  EXPECT_DOUBLE_EQ(scores.rougeL.fmeasure, 0.5);
  EXPECT_EQ(rouge("", "", true).rougeLsum.fmeasure, 0);
}

TEST(Rouge, EqualsRougeScore) {
  GRAFT_NEED(test::shared_dir());
  std::ifstream file(test::shared_dir() / "goldens-text" / "metrics.jsonl");
  ASSERT_TRUE(file) << "no metrics.jsonl";
  int rows = 0;
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    if (row["metric"] != "rouge") continue;
    ++rows;
    for (const bool stem : {false, true}) {
      const RougeScores ours = rouge(row["target"].get<std::string>(), row["pred"].get<std::string>(), stem);
      const Json& theirs = row["value"][stem ? "stem" : "plain"];
      const std::pair<const char*, const RougeScore*> kinds[] = {{"rouge1", &ours.rouge1},
                                                                 {"rouge2", &ours.rouge2},
                                                                 {"rougeL", &ours.rougeL},
                                                                 {"rougeLsum", &ours.rougeLsum}};
      for (const auto& [name, score] : kinds) {
        // The same divisions in the same order.
        EXPECT_NEAR(score->precision, theirs[name]["precision"].get<double>(), 1e-12) << name << row["i"];
        EXPECT_NEAR(score->recall, theirs[name]["recall"].get<double>(), 1e-12) << name << row["i"];
        EXPECT_NEAR(score->fmeasure, theirs[name]["fmeasure"].get<double>(), 1e-12) << name << row["i"];
      }
    }
  }
  EXPECT_GT(rows, 30);
}

TEST(Rouge, EqualsTheBundlesVectors) {
  GRAFT_NEED(test::data_dir());
  const Json rows = read_json(test::data_dir() / "data/metrics/rouge/vectors.json");
  for (const Json& row : rows) {
    const RougeScores ours = rouge(row["target"].get<std::string>(), row["prediction"].get<std::string>(),
                                   row["stem"].get<bool>());
    const std::string type = row["type"];
    const RougeScore& score = type == "rouge1"   ? ours.rouge1
                              : type == "rouge2" ? ours.rouge2
                              : type == "rougeL" ? ours.rougeL
                                                 : ours.rougeLsum;
    const double allowed = std::pow(10.0, -row["places"].get<int>()) / 2;
    for (const auto& [name, value] :
         {std::pair{"precision", score.precision}, {"recall", score.recall}, {"fmeasure", score.fmeasure}}) {
      if (!row[name].is_number()) continue;
      EXPECT_NEAR(value, row[name].get<double>(), allowed) << row.dump();
    }
  }
  EXPECT_GT(rows.size(), 20u);
}

}  // namespace
}  // namespace graft
