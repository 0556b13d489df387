#include "graft/base/json.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::contains;
using test::message_of;

std::string json_error(const std::string& text) {
  return message_of<DataError>([&] { parse_json(text, "a.json"); });
}

TEST(ParseJson, KeepsOrderAndTypes) {
  const Json json = parse_json(R"({"b": 1, "a": [1.0, true, null, "é\u20ac"], "c": {}})", "test");
  EXPECT_EQ(json.dump(), R"({"b":1,"a":[1.0,true,null,"é€"],"c":{}})");
  EXPECT_TRUE(json["b"].is_number_integer());
  EXPECT_TRUE(json["a"][0].is_number_float());
  EXPECT_EQ(parse_json("-3", "test"), Json(-3));
  EXPECT_EQ(parse_json("\xef\xbb\xbf[]", "test"), Json::array());
}

TEST(ParseJson, SaysLineAndColumn) {
  EXPECT_TRUE(contains(json_error("{\"a\": 1,\n \"b\" 2}"), "[a.json:2:6] not JSON: "));
  EXPECT_TRUE(contains(json_error(""), "[a.json:1:1] not JSON: "));
  EXPECT_TRUE(contains(json_error("[1, 2"), "not JSON"));
  EXPECT_TRUE(contains(json_error("[1] 2"), "not JSON"));
  EXPECT_TRUE(contains(json_error("[1e999]"), "not JSON"));
  EXPECT_TRUE(contains(json_error("[NaN]"), "not JSON"));
  EXPECT_EQ(json_error("[\n\"\xff\"]"), "[a.json:2:2] not UTF-8");
  EXPECT_TRUE(
      contains(message_of<DataError>([] { parse_json("{]", "a.jsonl", 12); }), "[a.jsonl:12:2] not JSON"));
}

TEST(ParseJson, RefusesDeepNestingAndDoubleKeys) {
  EXPECT_NO_THROW(parse_json(std::string(200, '[') + std::string(200, ']'), "test"));
  EXPECT_EQ(json_error(std::string(201, '[') + std::string(201, ']')), "[a.json] nested deeper than 200");
  EXPECT_EQ(json_error(std::string(1'000'000, '[')), "[a.json] nested deeper than 200");
  EXPECT_EQ(json_error(R"({"a": 1, "b": {"a": 2}, "a": 3})"), "[a.json] key twice in one object: a");
  EXPECT_EQ(message_of<DataError>([] { parse_json(R"({"a": 1, "a": 3})", "a.jsonl", 5); }),
            "[a.jsonl:5] key twice in one object: a");
}

TEST(ParseJson, ManyKeysAreNotQuadratic) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
  // Looking every key up in the list of those before would take minutes.
  EXPECT_EQ(parse_json(text + "}", "test").size(), 300'000u);
}

TEST(PrettyJson, IsPythonsLayout) {
  const Json json =
      parse_json(R"({"r": 8, "alpha": 16.0, "eps": 1e-5, "none": null, "yes": true, "empty": [], "map": {},
      "list": ["a", "b"], "inner": {"k": [{"x": -1}]}, "text": "é\"\\\n𝄞\u007f"})",
                 "test");
  EXPECT_EQ(to_pretty_json(json), R"({
  "r": 8,
  "alpha": 16.0,
  "eps": 1e-05,
  "none": null,
  "yes": true,
  "empty": [],
  "map": {},
  "list": [
    "a",
    "b"
  ],
  "inner": {
    "k": [
      {
        "x": -1
      }
    ]
  },
  "text": "\u00e9\"\\\n\ud834\udd1e\u007f"
})");
}

TEST(ReadJson, SaysWhichFile) {
  const test::TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_json(folder / "none.json"); }),
                       "none.json] cannot be read: No such"));
  EXPECT_TRUE(
      contains(message_of<DataError>([&] { read_json(folder.path()); }), "is a folder, expected a file"));
}

TEST(ReadObject, TakesMappingsOnly) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(read_object(folder.file("a.json", R"({"a": 1})"))["a"], 1);
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_object(folder.file("b.json", "[1]")); }),
                       "b.json] is no mapping"));
}

TEST(Override, SetsNestedKeys) {
  Json json = parse_json(
      R"({"train": {"seed": 1}, "method": [{"name": "lora"}, {"name": "full"}], "none": null})", "test");
  apply_override(json, "train.seed=2");
  apply_override(json, "train.rate=4e-4");
  apply_override(json, "new.deep.key=[a, 1]");
  apply_override(json, "method.1.r=4");
  apply_override(json, "none.x=true");
  apply_override(json, "text=a=b");
  apply_override(json, "empty=");
  EXPECT_EQ(
      json.dump(),
      R"({"train":{"seed":2,"rate":0.0004},"method":[{"name":"lora"},{"name":"full","r":4}],"none":{"x":true},)"
      R"("new":{"deep":{"key":["a",1]}},"text":"a=b","empty":null})");
}

TEST(Override, RefusesWhatIsNone) {
  Json json = parse_json(R"({"a": 1, "list": [1]})", "test");
  for (const char* wrong : {"a", "=1", "a..b=1", ".a=1", "a.=1", "a.b=1", "list.1=2", "list.x=2", "list.-1=0",
                            "b=[1", "b={a: !x 1}"}) {
    Json copy = json;
    EXPECT_TRUE(contains(message_of<UsageError>([&] { apply_override(copy, wrong); }), wrong));
  }
}

}  // namespace
}  // namespace graft
