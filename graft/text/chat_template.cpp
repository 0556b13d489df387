#include "graft/text/chat_template.h"

#include <textkit.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/text/owned_text.h"
#include "graft/text/tokenizer_config.h"

namespace graft {
namespace {

/// A string, or a list of {"name", "template"}: the one called "default".
std::optional<std::string> template_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return std::nullopt;
  for (const Json& entry : value) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.value("template", Json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

Json named_tokens(const TokenizerConfig& config) {
  Json variables = Json::object();
  for (const auto& [name, text] : config.named) {
    if (!text.empty()) variables[name] = text;
  }
  return variables;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, Json variables)
    : source_(std::move(source)), variables_(variables.is_object() ? std::move(variables) : Json::object()) {}

std::optional<ChatTemplate> ChatTemplate::open(const std::filesystem::path& folder) {
  const TokenizerConfig config = TokenizerConfig::open(folder);
  std::optional<std::string> source;
  if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file)) {
    source = read_file(file);
  } else {
    source = template_text(config.document.value("chat_template", Json()));
  }
  if (!source) return std::nullopt;
  return ChatTemplate(std::move(*source), named_tokens(config));
}

Json ChatTemplate::special_tokens(const std::filesystem::path& folder) {
  return named_tokens(TokenizerConfig::open(folder));
}

std::string ChatTemplate::render(const Request& request) const {
  Json variables = variables_;
  variables["messages"] = request.messages;
  variables["tools"] = request.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = request.add_generation_prompt;
  if (request.extra.is_object()) {
    for (const auto& [name, value] : request.extra.items()) variables[name] = value;
  }
  std::string text;
  try {
    text = variables.dump();
  } catch (const Json::exception&) {
    throw DataError("chat template", "the messages are not UTF-8");
  }
  OwnedText out, error;
  int raised = 0;
  if (textkit_render(borrow(source_), borrow(text), out.place(), error.place(), &raised)) return out.take();
  if (raised) throw DataError("chat template", "{}", error.take());
  throw DataError("chat template", "{}", one_line(error.take()));
}

}  // namespace graft
