#include <gtest/gtest.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/base/json.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::contains;
using test::message_of;

std::string yaml_error(const std::string& text) {
  return message_of<DataError>([&] { parse_yaml(text, "a.yaml"); });
}

TEST(ParseYaml, FollowsTheCoreSchema) {
  const std::pair<const char*, Json> cases[] = {{"true", true},
                                                {"False", false},
                                                {"yes", "yes"},
                                                {"on", "on"},
                                                {"null", nullptr},
                                                {"~", nullptr},
                                                {"", nullptr},
                                                {"12", 12},
                                                {"-3", -3},
                                                {"+4", 4},
                                                {"007", 7},
                                                {"0o17", 15},
                                                {"0x1F", 31},
                                                {"1.5", 1.5},
                                                {"4e-4", 4e-4},
                                                {"1e5", 1e5},
                                                {".5", 0.5},
                                                {"5.", 5.0},
                                                {"1_000", "1_000"},
                                                {"1:30", "1:30"},
                                                {"'12'", "12"},
                                                {"\"true\"", "true"},
                                                {"1.2.3", "1.2.3"},
                                                {"-", nullptr},
                                                {"2024-01-02", "2024-01-02"},
                                                {"e5", "e5"},
                                                {".", "."},
                                                {"0x", "0x"},
                                                {"99999999999999999999", 1e20}};
  for (const auto& [text, value] : cases) {
    if (std::string(text) == "-") continue;  // a list, below
    const Json got = parse_yaml("k: " + std::string(text), "test")["k"];
    EXPECT_EQ(got, value) << text;
    EXPECT_EQ(got.type_name(), std::string(value.type_name())) << text;
    EXPECT_EQ(got.is_number_float(), value.is_number_float()) << text;
  }
  EXPECT_EQ(parse_yaml("k: .inf", "test")["k"], Json(HUGE_VAL));
  EXPECT_EQ(parse_yaml("k: -.INF", "test")["k"], Json(-HUGE_VAL));
  EXPECT_TRUE(std::isnan(parse_yaml("k: .nan", "test")["k"].get<double>()));
  EXPECT_EQ(parse_yaml("- ", "test"), Json::array({nullptr}));
}

TEST(ParseYaml, ReadsARecipeInItsOrder) {
  const Json json = parse_yaml(R"(
model: {path: models/m, dtype: bfloat16}  # a comment
method:
  name: lora
  target_modules: [query, value]
train: &defaults
  epochs: 3
again: *defaults
text: |
  1
)",
                               "test");
  EXPECT_EQ(
      json.dump(),
      R"({"model":{"path":"models/m","dtype":"bfloat16"},"method":{"name":"lora","target_modules":["query","value"]},)"
      R"("train":{"epochs":3},"again":{"epochs":3},"text":"1\n"})");
  EXPECT_TRUE(parse_yaml("", "test").is_null());
  EXPECT_TRUE(parse_yaml("# nothing\n", "test").is_null());
}

TEST(ParseYaml, SaysWhatIsWrongAndWhere) {
  EXPECT_TRUE(contains(yaml_error("a: 1\nb: [1, 2\n"), "[a.yaml:3:"));
  EXPECT_TRUE(contains(yaml_error("a: 1\n b: 2\n"), "not YAML"));
  EXPECT_EQ(yaml_error("a: 1\na: 2\n"), "[a.yaml:2:1] key twice in one mapping: a");
  EXPECT_EQ(yaml_error("a: !!str 1\n"), "[a.yaml:1:4] tags are not taken: tag:yaml.org,2002:str");
  EXPECT_TRUE(contains(yaml_error("a: !x {}\n"), "tags are not taken: !x"));
  EXPECT_TRUE(contains(yaml_error("? [a]\n: 1\n"), "a key must be plain text"));
  EXPECT_TRUE(contains(yaml_error("a\n---\nb\n"), "more than one YAML document, expected one"));
  EXPECT_TRUE(contains(yaml_error("a: 1e999\n"), "number out of range: 1e999"));
  EXPECT_TRUE(contains(yaml_error("a: \xff\n"), "not UTF-8: byte 3"));
  EXPECT_TRUE(contains(yaml_error("a: *nobody\n"), "not YAML"));
}

TEST(ParseYaml, EndsWhateverTheTextIs) {
  // The parser stands still before these tokens.
  EXPECT_THROW(parse_yaml("[2a*],?\n", "test"), DataError);
  EXPECT_THROW(parse_yaml("a: 1\n]", "test"), DataError);
}

TEST(ParseYaml, AliasesRepeatWhatIsDone) {
  EXPECT_EQ(parse_yaml("a: &x [1, &y b]\nc: *x\nd: {e: *y}\n", "test").dump(),
            R"({"a":[1,"b"],"c":[1,"b"],"d":{"e":"b"}})");
  EXPECT_EQ(yaml_error("a: &x [1, *x]\n"), "[a.yaml:1:11] an alias inside what it names");
  EXPECT_EQ(yaml_error("a: &x b\n*x : 1\n"), "[a.yaml:2:1] a key must be plain text");
}

TEST(ParseYaml, BoundsWhatASmallFileCanBecome) {
  EXPECT_THROW(parse_yaml(std::string(100'000, '['), "test"), DataError);
  std::string laughs = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 12; ++i) {
    laughs += fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i, i - 1);
  }
  EXPECT_TRUE(contains(yaml_error(laughs), "more than 1000000 values"));
}

TEST(ToYaml, ReadsBackAsTheSame) {
  const Json json = parse_json(
      R"({"a": {"list": [1, 2.0, "x y", "true", "12", "", "-", "é", "a: b", "# no", "line\nline", "'", "\"", "null", "~",
      "1e5", "<<", "...", "---", "/path/to.x", "?", "\u0001\u007f\u0085\u2028\ufeff", "[", "@", "&a", "*a", "!t", "%", "`"]},
      "empty": [], "none": {}, "null": null, "yes": true, "deep": [{"k": [{"x": 1e-5}, [[2], []]]}, []], "": 1, "k: 1": 2,
      "big": 18446744073709551615, "float": 8.0})",
      "test");
  const Json back = parse_yaml(to_yaml(json), "test");
  EXPECT_EQ(back["deep"].dump(), json["deep"].dump());
  EXPECT_EQ(back["a"].dump(), json["a"].dump());
  EXPECT_TRUE(back["float"].is_number_float());
  for (const char* top : {"[]", "{}", "3", "\"text\"", "null", "[[1], {\"a\": 2}]"}) {
    const Json document = parse_json(top, "test");
    EXPECT_EQ(parse_yaml(to_yaml(document), "test"), document) << top;
  }
}

TEST(ToYaml, IsWhatAPersonWouldWrite) {
  const Json json = parse_json(
      R"({"model": {"path": "models/m"}, "method": {"target_modules": ["query", "value"], "r": 8}, "rate": 4e-4, "list": [{"a": 1, "b": 2}]})",
      "test");
  EXPECT_EQ(to_yaml(json), R"(model:
  path: models/m
method:
  target_modules: [query, value]
  r: 8
rate: 0.0004
list:
  -
    a: 1
    b: 2)");
}

}  // namespace
}  // namespace graft
