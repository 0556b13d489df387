#include "graft/text/chat_message.h"

#include "graft/base/error.h"

namespace graft {
namespace {

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

bool holds_text(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string();
}

std::string joined(const Json& parts, const std::string& where) {
  std::string text;
  for (const Json& part : parts) {
    if (!holds_text(part, "text") || part.value("type", Json("text")) != Json("text"))
      throw DataError(where, "content's part {}, expected {{\"type\": \"text\", \"text\": …}}", shown(part));
    text += part["text"].get<std::string>();
  }
  return text;
}

bool calls_tools(const Json& message) {
  const Json calls = message.value("tool_calls", Json());
  return message["role"] == "assistant" && calls.is_array() && !calls.empty();
}

Json parsed(const std::string& text, const char* what, const std::string& where) {
  try {
    return parse_json(text, where);
  } catch (const DataError&) {
    throw DataError(where, "{}: '{}', expected JSON", what, text.substr(0, 80));
  }
}

/// Cohere's own form has a name too, and parameter_definitions.
bool is_bare_function(const Json& tool) {
  return holds_text(tool, "name") && !tool.contains("function") && !tool.contains("parameter_definitions");
}

}  // namespace

Json plain_message(const Json& message, const std::string& where) {
  if (!holds_text(message, "role"))
    throw DataError(where, "turn {}, expected an object with the text role", shown(message));
  Json out = message;
  const Json content = message.value("content", Json());
  if (content.is_array()) {
    out["content"] = joined(content, where);
  } else if (content.is_null() && calls_tools(message)) {
    out["content"] = "";
  } else if (!content.is_string()) {
    throw DataError(where, "turn {}, expected a content of text{}", shown(message),
                    content.is_null() ? ", or tool_calls of the assistant" : "");
  }
  return out;
}

Json plain_tools(const Json& tools, const std::string& where) {
  if (tools.is_string()) {
    const auto text = tools.get<std::string>();
    return text.find_first_not_of(" \t\r\n") == text.npos ? Json()
                                                          : plain_tools(parsed(text, "tools", where), where);
  }
  if (tools.is_null()) return {};
  if (!tools.is_array()) throw DataError(where, "tools: {}, expected a list", shown(tools));
  Json out = Json::array();
  for (const Json& tool : tools)
    out.push_back(is_bare_function(tool) ? Json{{"type", "function"}, {"function", tool}} : tool);
  return out.empty() ? Json() : out;
}

Json call_message(const std::string& text, const std::string& where) {
  Json said = parsed(text, "function_call", where);
  if (!said.is_array()) said = Json::array({said});
  Json calls = Json::array();
  for (const Json& call : said) {
    if (!holds_text(call, "name") || !call.contains("arguments"))
      throw DataError(where, "function_call: {}, expected name and arguments", shown(call));
    const Json function = {{"name", call["name"]}, {"arguments", call["arguments"]}};
    calls.push_back({{"type", "function"}, {"function", function}});
  }
  return {{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}};
}

}  // namespace graft
