#include "graft/base/error.h"

#include <gtest/gtest.h>

namespace graft {
namespace {

TEST(Error, SaysWhereAndWhatAndCarriesTheExitCode) {
  const DataError data("file:3", "wrong value: {}, expected {}", 4, "5");
  EXPECT_STREQ(data.what(), "[file:3] wrong value: 4, expected 5");
  EXPECT_EQ(data.exit_code(), 1);
  EXPECT_EQ(UsageError("key", "unknown").exit_code(), 2);
  EXPECT_EQ(InternalError("here", "wrong").exit_code(), 1);
}

TEST(Error, IsOneLineWhateverTheValuesHold) {
  const std::string text = DataError("a\nb", "{}", "x\ty\x01z\n").what();
  EXPECT_EQ(text, "[a b] x\\x09y\\x01z ");
}

TEST(Nearest, OrdersByEditDistance) {
  const std::vector<std::string> names = {"learning_rate", "schedule", "seed", "steps", "epochs"};
  EXPECT_EQ(nearest("sed", names).front(), "seed");
  EXPECT_EQ(nearest("learnin_rate", names), (std::vector<std::string>{"learning_rate"}));
  EXPECT_EQ(nearest("rate", names), (std::vector<std::string>{"learning_rate"}));
  EXPECT_TRUE(nearest("zzzzzz", names).empty());
  EXPECT_EQ(nearest("query", {"query", "query"}), (std::vector<std::string>{"query"}));
}

TEST(Nearest, BecomesAQuestionOrNothing) {
  EXPECT_EQ(did_you_mean("sede", {"seed", "epochs"}), "; did you mean seed?");
  EXPECT_EQ(did_you_mean("xyzxyz", {"seed"}), "");
  EXPECT_EQ(did_you_mean("", {}), "");
}

}  // namespace
}  // namespace graft
