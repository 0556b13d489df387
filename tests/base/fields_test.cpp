#include "graft/base/fields.h"

#include <gtest/gtest.h>

#include "tests/temporary.h"

namespace graft {
namespace {

using test::contains;
using test::message_of;

struct Inner {
  int64_t r = 8;
  std::vector<std::string> targets = {"query"};
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("r", self.r, "rank", at_least(int64_t{1}));
    visit("targets", self.targets, "module names");
  }
};

struct Outer {
  double rate = 1e-4;
  bool flag = false;
  std::string kind = "linear";
  std::optional<int64_t> steps;
  Ordered<int64_t> pattern;
  std::filesystem::path path;
  Inner inner;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rate", self.rate, "step size", between(0.0, 1.0));
    visit("flag", self.flag, "whether");
    visit("kind", self.kind, "which", one_of({"linear", "cosine"}));
    visit("steps", self.steps, "how many");
    visit("pattern", self.pattern, "ranks by name");
    visit("path", self.path, "where");
    visit("inner", self.inner, "a part");
  }
};

std::string usage(const char* json) {
  return message_of<UsageError>([&] { read_fields<Outer>(parse_json(json, "test"), "train"); });
}

TEST(Fields, ReadWhatIsThereAndKeepDefaults) {
  const auto outer = read_fields<Outer>(
      parse_json(R"({"rate": 1, "steps": 3.0, "pattern": {"b": 1, "a": 2}, "inner": {"r": 4}})", "test"), "");
  EXPECT_EQ(outer.rate, 1.0);
  EXPECT_EQ(outer.steps, 3);
  EXPECT_EQ(outer.pattern, (Ordered<int64_t>{{"b", 1}, {"a", 2}}));
  EXPECT_EQ(outer.inner.r, 4);
  EXPECT_EQ(outer.inner.targets, (std::vector<std::string>{"query"}));
}

TEST(Fields, WriteReadsBackAsTheSame) {
  Outer outer;
  outer.steps = 7;
  outer.pattern = {{"z", 1}, {"a", 2}};
  const Json written = write_fields(outer);
  EXPECT_EQ(write_fields(read_fields<Outer>(written, "")), written);
  EXPECT_TRUE(write_fields(Outer{})["steps"].is_null());
}

TEST(Fields, ErrorsSayPathValueAndWhatWasExpected) {
  EXPECT_EQ(usage(R"({"rate": "fast"})"), "[train.rate] wrong value: \"fast\", expected a number");
  EXPECT_EQ(usage(R"({"rate": 2})"), "[train.rate] wrong value: 2, expected 0 to 1");
  EXPECT_EQ(usage(R"({"flag": 1})"), "[train.flag] wrong value: 1, expected true or false");
  EXPECT_EQ(usage(R"({"kind": "cubic"})"),
            "[train.kind] wrong value: \"cubic\", expected one of linear, cosine");
  EXPECT_EQ(usage(R"({"steps": 1.5})"), "[train.steps] wrong value: 1.5, expected an integer");
  EXPECT_EQ(usage(R"({"steps": 18446744073709551615})"),
            "[train.steps] wrong value: 18446744073709551615, expected an integer");
  EXPECT_EQ(usage(R"({"inner": {"r": 0}})"), "[train.inner.r] wrong value: 0, expected at least 1");
  EXPECT_EQ(usage(R"({"inner": {"targets": ["a", 5]}})"),
            "[train.inner.targets[1]] wrong value: 5, expected a string");
  EXPECT_EQ(usage(R"({"inner": []})"), "[train.inner] wrong value: [], expected a mapping");
  EXPECT_EQ(usage(R"({"pattern": {"a": "b"}})"), "[train.pattern.a] wrong value: \"b\", expected an integer");
  Outer outer;
  const auto number = [&](const char* text) {
    return message_of<UsageError>([&] { read_value(parse_yaml(text, "test"), outer, "train"); });
  };
  EXPECT_EQ(number("{rate: .nan}"), "[train.rate] wrong value: .nan, expected a finite number");
  EXPECT_EQ(number("{rate: -.inf}"), "[train.rate] wrong value: -.inf, expected a finite number");
  EXPECT_EQ(number("{steps: .inf}"), "[train.steps] wrong value: .inf, expected an integer");
  EXPECT_EQ(number("{kind: [.nan, a, {b: 1}]}"),
            "[train.kind] wrong value: [.nan,\"a\",{\"b\":1}], expected a string");
}

TEST(Fields, UnknownKeysAreNamedWithTheNearest) {
  EXPECT_EQ(usage(R"({"rates": 1})"), "[train.rates] unknown key; did you mean rate?");
  EXPECT_TRUE(contains(usage(R"({"zzzzzzzz": 1, "yyyyyyyyy": 2})"), "unknown keys: zzzzzzzz, yyyyyyyyy"));
  Json unknown;
  const auto inner = read_known_fields<Inner>(parse_json(R"({"r": 2, "extra": [1]})", "test"), "", unknown);
  EXPECT_EQ(inner.r, 2);
  EXPECT_EQ(unknown.dump(), R"({"extra":[1]})");
}

TEST(Fields, DescribeListsEveryKeyWithItsDefault) {
  const std::vector<FieldHelp> rows = describe_fields<Outer>("train");
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_EQ(rows[0].path, "train.rate");
  EXPECT_EQ(rows[0].default_value, "0.0001");
  EXPECT_EQ(rows[0].expected, "a number, 0 to 1");
  EXPECT_EQ(rows[1].expected, "true or false");
  EXPECT_EQ(rows[2].expected, "one of linear, cosine");
  EXPECT_EQ(rows[3].expected, "an integer or null");
  EXPECT_EQ(rows[4].expected, "a mapping");
  EXPECT_EQ(rows[5].expected, "a path");
  EXPECT_EQ(rows[8].expected, "a list");
  EXPECT_EQ(rows[7].path, "train.inner.r");
}

}  // namespace
}  // namespace graft
