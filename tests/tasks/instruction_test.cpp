#include "graft/tasks/instruction.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/tasks/chat_forms.h"
#include "graft/tasks/conversation.h"
#include "graft/tasks/token_loss.h"
#include "tests/shared.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/temporary.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

Example row(Json fields) { return {std::move(fields), "chat.jsonl:3"}; }

class InstructionTest : public ::testing::Test {
 protected:
  std::unique_ptr<Task> make(Json task, const ChatTemplate* of_model = nullptr) {
    task["name"] = "instruction";
    return kInstruction.create(
        {.task = task, .data = {}, .tokenizer = tokenizer_, .chat_template = of_model});
  }
  /// The tokens that the loss counts, as text.
  std::string learnt(const Task& task, const Example& example) {
    const auto features = task.features({example});
    std::vector<int64_t> ids;
    for (const int64_t label : features.at(0).labels) {
      if (label != kNoLabel) ids.push_back(label);
    }
    return tokenizer_.decode(ids, false);
  }

  test::TinyTokenizer files_{"a b c d e f user assistant system # : ### Instruction Response Input | > <|",
                             false};
  Tokenizer tokenizer_ = files_.open();
};

TEST_F(InstructionTest, OnlyAnswersAreLearnt) {
  const auto task = make({{"template", "plain"}});
  EXPECT_EQ(learnt(*task, row({{"prompt", "a b "}, {"completion", "c d"}})), "c d [SEP]");
  const Json turns = {{{"role", "user"}, {"content", "a "}},
                      {{"role", "assistant"}, {"content", "b c"}},
                      {{"role", "user"}, {"content", " d "}},
                      {{"role", "assistant"}, {"content", "e"}}};
  EXPECT_EQ(learnt(*task, row({{"messages", turns}})), "b c [SEP] e [SEP]");
}

TEST_F(InstructionTest, AllTokensButTheFirstAreLearntOnRequest) {
  const auto task = make({{"template", "plain"}, {"loss_on", "all"}});
  EXPECT_EQ(learnt(*task, row({{"prompt", "a b "}, {"completion", "c"}})), "a b c [SEP]");
}

TEST_F(InstructionTest, FormatsAreKnownByTheirColumns) {
  const auto of = [](Json fields) {
    return conversation_of(row(std::move(fields)), {}, "", InputStyle::lines).messages.dump();
  };
  const std::string want = R"([{"role":"user","content":"q\nr"},{"role":"assistant","content":"s"}])";
  EXPECT_EQ(of({{"instruction", "q"}, {"input", "r"}, {"output", "s"}}), want);
  EXPECT_EQ(
      of({{"conversations", {{{"from", "human"}, {"value", "q\nr"}}, {{"from", "gpt"}, {"value", "s"}}}}}),
      want);
  EXPECT_EQ(of({{"prompt", "q\nr"}, {"completion", "s"}}), want);
  EXPECT_EQ(of({{"messages",
                 {{{"role", "user"}, {"content", "q\nr"}},
                  {{"role", "assistant"}, {"content", "s"}},
                  {{"role", "user"}, {"content", "and?"}}}}}),
            want);
  EXPECT_EQ(
      of({{"instruction", "q"},
          {"output", "s"},
          {"system", "t"},
          {"history", Json::array({Json::array({"u", "v"})})}}),
      R"([{"role":"system","content":"t"},{"role":"user","content":"u"},{"role":"assistant","content":"v"},)"
      R"({"role":"user","content":"q"},{"role":"assistant","content":"s"}])");
}

/// LLaMA-Factory's turns: a call is an answer, what comes back is read, and the tools reach the template.
TEST_F(InstructionTest, FunctionCallsAreLearnt) {
  const ChatTemplate form(
      "{% for t in tools %}{{ t.function.name }} {% endfor %}"
      "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.x }} {% else %}"
      "{{ m.content }} {% endif %}{% endfor %}",
      Json::object());
  const Json fields = {{"tools", R"([{"name":"f","parameters":{}}])"},
                       {"conversations",
                        {{{"from", "human"}, {"value", "a"}},
                         {{"from", "function_call"}, {"value", R"({"name":"f","arguments":{"x":"b"}})"}},
                         {{"from", "observation"}, {"value", "c"}},
                         {{"from", "gpt"}, {"value", "d"}}}}};
  const auto task = make({}, &form);
  EXPECT_EQ(tokenizer_.decode(task->features({row(fields)}).at(0).input_ids, false), "f a b c d");
  EXPECT_EQ(learnt(*task, row(fields)), "b d");
  const auto error = test::message_of<DataError>([&] {
    make({{"template", "plain"}})->features({row(fields)});
  });
  EXPECT_NE(error.find("writes no tool_calls"), std::string::npos) << error;
}

TEST_F(InstructionTest, ContentsOfPartsAreText) {
  const Json turns = Json::parse(R"([
      {"role":"user","content":[{"type":"text","text":"a "}]},
      {"role":"assistant","content":[{"type":"text","text":"b "},{"type":"text","text":"c"}]}])");
  EXPECT_EQ(learnt(*make({{"template", "plain"}}), row({{"messages", turns}})), "b c [SEP]");
}

TEST_F(InstructionTest, AlpacasPromptHasASectionForTheInput) {
  const auto form = chat_form("alpaca", tokenizer_);
  const Conversation with = conversation_of(row({{"instruction", "q"}, {"input", "r"}, {"output", "s"}}), {},
                                            "", InputStyle::section);
  const std::string text = form.render({.messages = with.messages, .tools = nullptr});
  EXPECT_NE(text.find("paired with an input"), std::string::npos) << text;
  EXPECT_NE(text.find("### Instruction:\nq\n\n### Input:\nr\n\n### Response:\ns[SEP]"), std::string::npos)
      << text;
}

TEST_F(InstructionTest, EveryFormsPromptBeginsItsText) {
  const Json question = {{{"role", "system"}, {"content", "sys"}}, {{"role", "user"}, {"content", "hello"}}};
  for (const std::string& name : chat_form_names()) {
    const auto form = chat_form(name, tokenizer_);
    Json whole = question;
    whole.push_back({{"role", "assistant"}, {"content", "ANSWER"}});
    const std::string prompt =
        form.render({.messages = question, .tools = nullptr, .add_generation_prompt = true});
    const std::string text = form.render({.messages = whole, .tools = nullptr});
    EXPECT_EQ(text.substr(0, prompt.size()), prompt) << name;
    EXPECT_NE(text.find("sys"), std::string::npos) << name;
    const std::string rest = text.substr(prompt.size());
    EXPECT_LE(rest.find("ANSWER"), 1u) << name << ": " << rest;
  }
}

TEST_F(InstructionTest, LongConversationsLoseTheirEndAndSomeAllOfTheirAnswer) {
  const auto task = make({{"template", "plain"}, {"max_length", 4}});
  const auto features = task->features({row({{"prompt", "a b c d e "}, {"completion", "f"}}),
                                        row({{"prompt", "a "}, {"completion", "b c d e f"}})});
  ASSERT_EQ(features.size(), 1u);
  EXPECT_EQ(features[0].example, 1);
  EXPECT_EQ(features[0].input_ids.size(), 4u);
  EXPECT_THROW(task->features({row({{"prompt", "a b c d e "}, {"completion", "f"}})}), DataError);
}

TEST_F(InstructionTest, ErrorsSayWhere) {
  const auto error_of = [&](Json fields) {
    return test::message_of<DataError>([&] {
      make({{"template", "plain"}})->features({row(std::move(fields))});
    });
  };
  for (const Json& fields :
       {Json{{"text", "a"}}, Json{{"messages", "a"}},
        Json{{"messages", {{{"role", "user"}, {"content", "a"}}}}},
        Json{{"messages", {{{"role", "user"}, {"content", nullptr}}}}},
        Json{{"conversations", {{{"from", "function_call"}, {"value", "f(1)"}}}}},
        Json{{"tools", "["}, {"prompt", "a"}, {"completion", "b"}},
        Json{{"conversations", {{{"from", "alien"}, {"value", "a"}}}}}, Json{{"conversations", {1, 2}}},
        Json{{"instruction", 5}, {"output", "a"}}, Json{{"instruction", ""}, {"output", "a"}}}) {
    EXPECT_NE(error_of(fields).find("chat.jsonl:3"), std::string::npos) << fields << ": " << error_of(fields);
  }
  EXPECT_THROW(make({{"template", "alpacca"}}), UsageError);
  EXPECT_THROW(make({}), UsageError);  // no template of the model's
}

TEST_F(InstructionTest, ATemplatesRefusalNamesTheRow) {
  const ChatTemplate strict("{{ raise_exception('only even turns') }}", Json::object());
  const auto task = make({}, &strict);
  try {
    task->features({row({{"prompt", "a"}, {"completion", "b"}})});
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("chat.jsonl:3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("only even turns"), std::string::npos) << error.what();
  }
}

/// A real template: the answer with its end-of-turn token, and neither the next turn's header nor the line's
/// end.
TEST(InstructionReal, LearnsTheAnswerAndItsEndOfTurn) {
  GRAFT_NEED(test::shared_dir());
  const auto folder = test::shared_dir() / "models" / "minimind2-small";
  const Tokenizer tokenizer = Tokenizer::open(folder);
  const auto form = ChatTemplate::open(folder);
  ASSERT_TRUE(form);
  const auto task = kInstruction.create(
      {.task = {{"name", "instruction"}}, .data = {}, .tokenizer = tokenizer, .chat_template = &*form});
  const Json turns = {{{"role", "user"}, {"content", "你好"}},
                      {{"role", "assistant"}, {"content", "Hi there."}},
                      {{"role", "user"}, {"content", "Bye"}},
                      {{"role", "assistant"}, {"content", "再见"}}};
  const auto features = task->features({{{{"messages", turns}}, "x:1"}});
  std::vector<int64_t> ids;
  for (const int64_t label : features.at(0).labels) {
    if (label != kNoLabel) ids.push_back(label);
  }
  const std::string text = tokenizer.decode(ids, false);
  EXPECT_EQ(text, "Hi there.<|im_end|>再见<|im_end|>");
}

}  // namespace
}  // namespace graft
