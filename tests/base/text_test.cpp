#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "graft/base/number.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

TEST(PythonFloat, WritesAsRepr) {
  const std::pair<double, const char*> cases[] = {{0.1, "0.1"},
                                                  {1e-05, "1e-05"},
                                                  {8.0, "8.0"},
                                                  {0.0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1e16, "1e+16"},
                                                  {1e15, "1000000000000000.0"},
                                                  {123456789012345680.0, "1.2345678901234568e+17"},
                                                  {0.0001, "0.0001"},
                                                  {0.00012, "0.00012"},
                                                  {1.5e-7, "1.5e-07"},
                                                  {1e100, "1e+100"},
                                                  {2.0 / 3, "0.6666666666666666"},
                                                  {5e-324, "5e-324"},
                                                  {1.7976931348623157e308, "1.7976931348623157e+308"},
                                                  {9999999999999998.0, "9999999999999998.0"},
                                                  {-12.25, "-12.25"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(python_float(value), text);
  EXPECT_EQ(python_float(std::nan("")), "null");
  EXPECT_EQ(python_float(HUGE_VAL), "null");
}

TEST(ParseNumber, TakesAllOfTheTextOrNothing) {
  EXPECT_EQ(parse_integer("-12"), -12);
  EXPECT_EQ(parse_integer("+7"), 7);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<int64_t>::max());
  for (const char* wrong : {"", "+", "-", "+-1", "1 ", " 1", "1.0", "9223372036854775808", "0x1"}) {
    EXPECT_FALSE(parse_integer(wrong)) << wrong;
  }
  EXPECT_EQ(parse_float("4e-4"), 4e-4);
  EXPECT_EQ(parse_float("+.5"), 0.5);
  for (const char* wrong : {"", "+-1.0", "1e999", "1,5", "1.0x"}) EXPECT_FALSE(parse_float(wrong)) << wrong;
}

TEST(Utf8, TakesWellFormedText) {
  for (const char* text : {"", "plain ascii, longer than a word", "é", "€", "𝄞", "好好好好", "\x7f",
                           "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80"}) {
    EXPECT_FALSE(first_invalid_utf8(text)) << text;
  }
}

TEST(Utf8, TheMarkInFrontIsDropped) {
  for (const auto& [given, left] :
       std::vector<std::pair<std::string, std::string>>{{"\xef\xbb\xbf"
                                                         "a",
                                                         "a"},
                                                        {"a\xef\xbb\xbf", "a\xef\xbb\xbf"},
                                                        {"\xef\xbb", "\xef\xbb"},
                                                        {"", ""}}) {
    std::string text = given;
    drop_byte_order_mark(text);
    EXPECT_EQ(text, left);
  }
}

TEST(Utf8, FindsTheFirstWrongByte) {
  const std::pair<const char*, size_t> cases[] = {
      {"\x80", 0},              // a continuation alone
      {"ab\xff", 2},            // no lead byte
      {"\xc0\x80", 0},          // overlong
      {"\xe0\x9f\xbf", 0},      // overlong
      {"\xed\xa0\x80", 0},      // a surrogate
      {"\xf4\x90\x80\x80", 0},  // above U+10FFFF
      {"\xf5\x80\x80\x80", 0},  // no lead byte
      {"abc\xe2\x82", 3},       // cut off
      {"\xe2\x28\xa1", 0},      // second byte
      {"\xe2\x82\x28", 0},      // third byte
      {"12345678\xf0\x9d\x84", 8},
  };
  for (const auto& [text, offset] : cases) EXPECT_EQ(first_invalid_utf8(text), offset) << text;
}

}  // namespace
}  // namespace graft
