// graft tokenize: text to ids and back, what a chat template makes of messages, and the same as a filter of
// JSON lines.
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <iostream>
#include <memory>

#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/base/error.h"
#include "graft/base/utf8.h"
#include "graft/text/chat_template.h"
#include "graft/text/tokenizer.h"

namespace graft::cli {
namespace {

struct Options {
  std::string model, text, pair;
  std::vector<int64_t> ids;
  bool jsonl = false, chat = false, no_special = false;
  bool has_text = false, has_pair = false;
};

/// A tokenizer with what its folder says of chats.
struct Folder {
  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat;
  Json special_tokens;

  explicit Folder(const std::string& path)
      : tokenizer(Tokenizer::open(path)),
        chat(ChatTemplate::open(path)),
        special_tokens(ChatTemplate::special_tokens(path)) {}
};

Json flat_offsets(const Encoding& encoding) {
  Json out = Json::array();
  for (const auto& [start, end] : encoding.offsets) {
    out.push_back(start);
    out.push_back(end);
  }
  return out;
}

const Json* find(const Json& line, const char* name) {
  const auto found = line.find(name);
  return found == line.end() || found->is_null() ? nullptr : &*found;
}

std::string string_field(const Json& value, const char* name) {
  if (!value.is_string()) throw DataError("line", "{}: {}, expected a string", name, value.dump());
  return value.get<std::string>();
}

bool flag_field(const Json& line, const char* name, bool otherwise) {
  const Json* value = find(line, name);
  if (!value) return otherwise;
  if (!value->is_boolean()) throw DataError("line", "{}: {}, expected true or false", name, value->dump());
  return value->get<bool>();
}

Json object_field(const Json& line, const char* name, const Json& otherwise) {
  const Json* value = find(line, name);
  if (!value) return otherwise;
  if (!value->is_object()) throw DataError("line", "{}: {}, expected an object", name, value->dump());
  return *value;
}

Json answer_text(const Folder& folder, const Json& line) {
  TextInput input{string_field(line["text"], "text"), {}, flag_field(line, "special", true)};
  if (const Json* pair = find(line, "text2")) input.pair = string_field(*pair, "text2");
  const Encoding encoding = folder.tokenizer.encode(input);
  return {{"ids", encoding.ids},
          {"type_ids", encoding.type_ids},
          {"offsets", flat_offsets(encoding)},
          {"decoded", folder.tokenizer.decode(encoding.ids, false)},
          {"decoded_skip", folder.tokenizer.decode(encoding.ids, true)}};
}

std::vector<int64_t> ids_field(const Json& value) {
  std::vector<int64_t> ids;
  if (!value.is_array()) throw DataError("line", "ids: {}, expected a list of ids", value.dump());
  for (const Json& id : value) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > UINT32_MAX) {
      throw DataError("line", "ids: {}, expected an id", id.dump());
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

Json stream_ids(const Tokenizer& tokenizer, const std::vector<int64_t>& ids) {
  Json out = Json::array();
  Tokenizer::Stream stream = tokenizer.stream(true);
  for (const int64_t id : ids) {
    const std::optional<std::string> text = stream.next(id);
    if (stream.fault()) {
      out.push_back({{"error", *stream.fault()}});
      break;
    }
    out.push_back(text ? Json(*text) : Json());
  }
  return out;
}

Json answer_ids(const Folder& folder, const Json& line) {
  const std::vector<int64_t> ids = ids_field(line["ids"]);
  return {{"decoded", folder.tokenizer.decode(ids, false)},
          {"decoded_skip", folder.tokenizer.decode(ids, true)},
          {"stream", stream_ids(folder.tokenizer, ids)}};
}

Json answer_messages(const Folder& folder, const Json& line) {
  const Json* source = find(line, "template");
  if (!source && !folder.chat)
    throw DataError("line", "the model has no chat template; give one as \"template\"");
  const ChatTemplate chat(source ? string_field(*source, "template") : folder.chat->source(),
                          object_field(line, "vars", folder.special_tokens));
  ChatTemplate::Request request;
  request.messages = line["messages"];
  if (!request.messages.is_array())
    throw DataError("line", "messages: {}, expected a list", request.messages.dump());
  if (const Json* tools = find(line, "tools")) request.tools = *tools;
  request.add_generation_prompt = flag_field(line, "add_generation_prompt", false);
  request.extra = object_field(line, "kwargs", Json::object());
  // What a template refuses is an answer like any other.
  try {
    return {{"text", chat.render(request)}};
  } catch (const DataError& error) {
    const std::string_view text = error.what(), head = "[chat template] ";
    return {{"error", text.starts_with(head) ? text.substr(head.size()) : text}};
  }
}

Json answer(const Folder& folder, const std::string& text) {
  const Json line = parse_json(text, "line");
  if (!line.is_object()) throw DataError("line", "{}, expected an object", line.type_name());
  if (line.contains("messages")) return answer_messages(folder, line);
  if (line.contains("text")) return answer_text(folder, line);
  if (line.contains("ids")) return answer_ids(folder, line);
  throw DataError("line", "expected an object with text, ids or messages");
}

int filter_lines(const Folder& folder) {
  int exit_code = 0;
  for (std::string line; std::getline(std::cin, line);) {
    Json out;
    try {
      out = answer(folder, line);
    } catch (const Error& error) {
      out = {{"error", error.what()}};
      exit_code = 1;
    }
    fmt::print("{}\n", out.dump(-1, ' ', false, Json::error_handler_t::replace));
    flush_result();
  }
  return exit_code;
}

/// The argument, else standard input as a whole.
std::string input_text(const Options& options) {
  std::string text = options.text;
  if (!options.has_text) text.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (const auto wrong = first_invalid_utf8(text))
    throw DataError("input", "not UTF-8: wrong byte at {}", *wrong);
  return text;
}

void show_ids(const Folder& folder, const std::vector<int64_t>& ids, Json document, const Globals& globals) {
  std::string numbers, tokens;
  document["ids"] = ids;
  document["tokens"] = Json::array();
  for (const int64_t id : ids) {
    const std::string token = folder.tokenizer.id_token(id).value_or("");
    numbers += fmt::format(" {}", id);
    tokens += " " + token;
    document["tokens"].push_back(token);
  }
  const std::string decoded = folder.tokenizer.decode(ids, true);
  document["decoded_skip"] = decoded;
  print_result(globals, document, fmt::format("ids:{}\ntokens:{}\ntext: {}", numbers, tokens, decoded));
}

int show_text(const Folder& folder, const Options& options, const Globals& globals) {
  if (!options.ids.empty()) {
    show_ids(folder, options.ids, Json::object(), globals);
    return 0;
  }
  TextInput input{input_text(options), {}, !options.no_special};
  if (options.has_pair) input.pair = options.pair;
  const Encoding encoding = folder.tokenizer.encode(input);
  show_ids(folder, encoding.ids, {{"type_ids", encoding.type_ids}, {"offsets", flat_offsets(encoding)}},
           globals);
  return 0;
}

/// Text is one user message; what begins with [ is a list of messages.
int show_chat(const Folder& folder, const Options& options, const Globals& globals) {
  if (!folder.chat) throw DataError(options.model, "the model has no chat template");
  const std::string text = input_text(options);
  ChatTemplate::Request request;
  const bool list = text.starts_with('[') && Json::accept(text);
  request.messages = list ? Json::parse(text) : Json::array({{{"role", "user"}, {"content", text}}});
  request.add_generation_prompt = true;
  const std::string rendered = folder.chat->render(request);
  print_result(globals, {{"text", rendered}}, rendered);
  return 0;
}

}  // namespace

Run define_tokenize(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "folder with a tokenizer")->required();
  CLI::Option* text = app.add_option("text", options->text, "the text; standard input where not given");
  CLI::Option* pair = app.add_option("--pair", options->pair, "a second text");
  app.add_option("--ids", options->ids, "ids to decode instead, separated by commas")
      ->delimiter(',')
      ->check(number(between<int64_t>(0, UINT32_MAX)));
  app.add_flag("--no-special", options->no_special, "without the special tokens around the text");
  CLI::Option* chat =
      app.add_flag("--chat", options->chat, "the chat template's result for the text, or a list of messages");
  app.add_flag("--jsonl", options->jsonl, "a filter: one JSON object a line in, one out")
      ->excludes(chat)
      ->excludes(text);
  return [options, text, pair, &globals] {
    options->has_text = text->count() > 0;
    options->has_pair = pair->count() > 0;
    const Folder folder(options->model);
    if (options->jsonl) return filter_lines(folder);
    return options->chat ? show_chat(folder, *options, globals) : show_text(folder, *options, globals);
  };
}

}  // namespace graft::cli
