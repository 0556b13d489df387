// What chat data holds and templates do not read: parts, contents that are none, tools as text.
#include "graft/text/chat_message.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/temporary.h"

namespace graft {
namespace {

const char* const kWhere = "chat.jsonl:3";

std::string content_of(const Json& message) { return plain_message(message, kWhere)["content"]; }

TEST(ChatMessage, PartsOfTextAreJoined) {
  EXPECT_EQ(content_of({{"role", "user"}, {"content", "a"}}), "a");
  EXPECT_EQ(content_of(Json::parse(
                R"({"role":"user","content":[{"type":"text","text":"a "},{"type":"text","text":"b"}]})")),
            "a b");
  EXPECT_EQ(content_of(Json::parse(R"({"role":"user","content":[]})")), "");
}

TEST(ChatMessage, WhatCallsToolsMayHaveNoContent) {
  const Json call = {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", {{{"id", "1"}}}}};
  EXPECT_EQ(content_of(call), "");
  EXPECT_EQ(plain_message(call, kWhere)["tool_calls"], call["tool_calls"]);
  Json without = call;
  without.erase("content");
  EXPECT_EQ(content_of(without), "");
}

TEST(ChatMessage, ErrorsSayWhereAndWhat) {
  const auto error_of = [](const char* text) {
    return test::message_of<DataError>([&] { plain_message(Json::parse(text), kWhere); });
  };
  for (const auto& [text, what] : std::vector<std::pair<const char*, const char*>>{
           {R"({"role":"user","content":[{"type":"image_url","image_url":{}}]})",
            "part {\"type\":\"image_url\""},
           {R"({"role":"user","content":["a"]})", "part \"a\""},
           {R"({"role":"user","content":null})", "expected a content of text"},
           {R"({"role":"assistant","content":null,"tool_calls":[]})", "or tool_calls"},
           {R"({"role":"user","tool_calls":[{}]})", "expected a content of text"},
           {R"({"role":"user","content":5})", "expected a content of text"},
           {R"({"content":"a"})", "the text role"},
           {R"("a")", "the text role"}}) {
    EXPECT_NE(error_of(text).find("[chat.jsonl:3]"), std::string::npos) << error_of(text);
    EXPECT_NE(error_of(text).find(what), std::string::npos) << error_of(text);
  }
}

TEST(ChatMessage, ToolsAreAListOfFunctions) {
  const Json wrapped = Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{}}}])");
  EXPECT_EQ(plain_tools(wrapped, kWhere), wrapped);
  EXPECT_EQ(plain_tools(wrapped.dump(), kWhere), wrapped);
  EXPECT_EQ(plain_tools(R"([{"name":"f","parameters":{}}])", kWhere), wrapped);
  const Json cohere = Json::parse(R"([{"name":"f","parameter_definitions":{}}])");
  EXPECT_EQ(plain_tools(cohere, kWhere), cohere);
  for (const Json& none : {Json(), Json(""), Json("[]"), Json("null"), Json::array()})
    EXPECT_TRUE(plain_tools(none, kWhere).is_null()) << none;
  for (const Json& wrong : {Json("{"), Json("{}"), Json(5), Json("5")}) {
    const std::string error = test::message_of<DataError>([&] { plain_tools(wrong, kWhere); });
    EXPECT_NE(error.find("[chat.jsonl:3] tools:"), std::string::npos) << error;
  }
}

TEST(ChatMessage, AFunctionCallIsToolCalls) {
  const Json one = call_message(R"({"name":"f","arguments":{"x":1}})", kWhere);
  EXPECT_EQ(one, Json::parse(R"({"role":"assistant","content":"","tool_calls":
                [{"type":"function","function":{"name":"f","arguments":{"x":1}}}]})"));
  EXPECT_EQ(call_message(R"([{"name":"f","arguments":{}},{"name":"g","arguments":{}}])", kWhere)["tool_calls"]
                .size(),
            2u);
  for (const char* wrong : {"f(1)", "{}", R"({"name":"f"})", "[5]"}) {
    const std::string error = test::message_of<DataError>([&] { call_message(wrong, kWhere); });
    EXPECT_NE(error.find("[chat.jsonl:3] function_call:"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace graft
