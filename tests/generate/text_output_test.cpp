#include "graft/generate/text_output.h"

#include <gtest/gtest.h>

namespace graft {
namespace {

TEST(TextOutput, HandsOutAtOnceWithoutStopStrings) {
  TextOutput output({});
  EXPECT_EQ(output.add("Hello"), "Hello");
  EXPECT_EQ(output.add(" you"), " you");
  EXPECT_EQ(output.finish(), "");
  EXPECT_EQ(output.text(), "Hello you");
}

TEST(TextOutput, HoldsBackWhatMayBecomeAStopString) {
  TextOutput output({"\nUser:"});
  EXPECT_EQ(output.add("Yes.\nUs"), "Yes.");
  EXPECT_EQ(output.add("ually"), "\nUsually");
  EXPECT_EQ(output.add("\n"), "");
  EXPECT_EQ(output.add("User: no"), "");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.add("more"), "");
  EXPECT_EQ(output.finish(), "");
  EXPECT_EQ(output.text(), "Yes.\nUsually");
}

TEST(TextOutput, EndsBeforeTheFirstOfSeveral) {
  TextOutput output({"END", "."});
  EXPECT_EQ(output.add("one. two END"), "one");
  EXPECT_TRUE(output.stopped());
}

TEST(TextOutput, OverlappingBeginningsAreFound) {
  TextOutput output({"aab"});
  EXPECT_EQ(output.add("xa"), "x");
  EXPECT_EQ(output.add("a"), "");
  EXPECT_EQ(output.add("a"), "a");
  EXPECT_EQ(output.add("b"), "");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.text(), "xa");
}

TEST(TextOutput, FinishGivesWhatWasHeldBack) {
  TextOutput output({"STOP"});
  EXPECT_EQ(output.add("go ST"), "go ");
  EXPECT_EQ(output.finish(), "ST");
  EXPECT_EQ(output.text(), "go ST");
}

TEST(TextOutput, AnEmptyStopStringStopsNothing) {
  TextOutput output({""});
  EXPECT_EQ(output.add("a"), "a");
  EXPECT_FALSE(output.stopped());
}

}  // namespace
}  // namespace graft
