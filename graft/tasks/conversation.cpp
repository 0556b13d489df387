#include "graft/tasks/conversation.h"

#include <map>

#include "graft/base/error.h"
#include "graft/text/chat_message.h"

namespace graft {
namespace {

// Roles as ShareGPT files call them.
const std::map<std::string, std::string>& roles() {
  static const std::map<std::string, std::string> table{
      {"human", "user"},          {"user", "user"},       {"gpt", "assistant"},
      {"assistant", "assistant"}, {"model", "assistant"}, {"bot", "assistant"},
      {"system", "system"},       {"tool", "tool"},       {"observation", "tool"}};
  return table;
}

Json message(const std::string& role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

std::string text_at(const Example& example, const std::string& key) {
  const auto found = example.fields.find(key);
  if (found == example.fields.end() || found->is_null()) return "";
  if (!found->is_string())
    throw DataError(example.where, "{}: {}, expected text", key, found->dump().substr(0, 80));
  return found->get<std::string>();
}

const Json& list_at(const Example& example, const std::string& key) {
  const auto found = example.fields.find(key);
  if (found == example.fields.end() || !found->is_array() || found->empty())
    throw DataError(example.where, "no list of turns in column {}, expected one", key);
  return *found;
}

std::string string_of(const Example& example, const Json& turn, const char* key) {
  if (!turn.is_object() || !turn.contains(key) || !turn[key].is_string()) {
    throw DataError(example.where, "turn {}, expected an object with the text {}", turn.dump().substr(0, 80),
                    key);
  }
  return turn[key].get<std::string>();
}

void from_alpaca(const Example& example, const DataConfig& data, InputStyle style, Conversation& out) {
  if (const auto history = example.fields.find("history");
      history != example.fields.end() && history->is_array()) {
    for (const Json& pair : *history) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
        throw DataError(example.where, "history: {}, expected pairs of texts", pair.dump().substr(0, 80));
      out.messages.push_back(message("user", pair[0].get<std::string>()));
      out.messages.push_back(message("assistant", pair[1].get<std::string>()));
    }
  }
  std::string question = text_at(example, data.column("instruction", "instruction"));
  const std::string input = text_at(example, data.column("input", "input"));
  if (!input.empty() && style == InputStyle::section) question += "\n\n### Input:\n" + input;
  if (!input.empty() && style == InputStyle::lines) question += (question.empty() ? "" : "\n") + input;
  if (question.empty()) throw DataError(example.where, "no instruction, expected some text");
  out.messages.push_back(message("user", question));
  out.messages.push_back(message("assistant", text_at(example, data.column("output", "output"))));
}

void from_messages(const Example& example, const DataConfig& data, Conversation& out) {
  for (const Json& turn : list_at(example, data.column("messages", "messages")))
    out.messages.push_back(plain_message(turn, example.where));
}

void from_sharegpt(const Example& example, const DataConfig& data, Conversation& out) {
  for (const Json& turn : list_at(example, data.column("conversations", "conversations"))) {
    const std::string from = string_of(example, turn, "from");
    if (from == "function_call") {
      out.messages.push_back(call_message(string_of(example, turn, "value"), example.where));
      continue;
    }
    const auto role = roles().find(from);
    if (role == roles().end())
      throw DataError(example.where,
                      "from: '{}', expected human, gpt, function_call, observation, system or tool", from);
    out.messages.push_back(message(role->second, string_of(example, turn, "value")));
  }
}

void from_prompt(const Example& example, const DataConfig& data, Conversation& out) {
  out.messages.push_back(message("user", text_at(example, data.column("prompt", "prompt"))));
  out.messages.push_back(message("assistant", text_at(example, data.column("completion", "completion"))));
}

std::string format_of(const Example& example, const DataConfig& data) {
  const Json& fields = example.fields;
  if (fields.contains(data.column("messages", "messages"))) return "messages";
  if (fields.contains(data.column("conversations", "conversations"))) return "sharegpt";
  if (fields.contains(data.column("output", "output"))) return "alpaca";
  if (fields.contains(data.column("completion", "completion"))) return "prompt";
  throw DataError(
      example.where,
      "row {}, expected messages, conversations, instruction and output, or prompt and completion; "
      "other names: data.columns",
      fields.dump().substr(0, 80));
}

}  // namespace

Conversation conversation_of(const Example& example, const DataConfig& data, const std::string& format,
                             InputStyle style) {
  Conversation out;
  const std::string kind = format.empty() ? format_of(example, data) : format;
  if (kind == "messages") from_messages(example, data, out);
  if (kind == "sharegpt") from_sharegpt(example, data, out);
  if (kind == "alpaca") from_alpaca(example, data, style, out);
  if (kind == "prompt") from_prompt(example, data, out);
  const std::string system = text_at(example, data.column("system", "system"));
  if (!system.empty() && out.messages[0].value("role", "") != "system")
    out.messages.insert(out.messages.begin(), message("system", system));
  if (const auto tools = example.fields.find(data.column("tools", "tools")); tools != example.fields.end())
    out.tools = plain_tools(*tools, example.where);
  // What comes after the last answer would only be read, never learnt from.
  while (!out.messages.empty() && out.messages.back().value("role", "") != "assistant")
    out.messages.erase(out.messages.size() - 1);
  if (out.messages.empty())
    throw DataError(example.where, "no answer in the conversation, expected an assistant's turn");
  return out;
}

}  // namespace graft
