// graft generate: text from a language model (a decoder, or an encoder with one), with or without adapters.
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "cli/command.h"
#include "cli/number_option.h"
#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/log.h"
#include "graft/base/utf8.h"
#include "graft/generate/generator.h"
#include "graft/session/session.h"
#include "graft/text/chat_message.h"
#include "graft/train/train_config.h"

namespace graft::cli {
namespace {

struct GenerateOptions {
  std::string model, dtype = "float32", system;
  std::vector<std::string> adapters, prompts;
  std::string prompts_file;
  bool chat = false, merged = false, stream = true;
  int64_t threads = 0, drop_adapters = 0;
  GenerateConfig generate;
};

/// One prompt: what was asked, what the model reads, and the answer that the prompts' file has for it.
struct Prompt {
  std::string shown;
  TextInput input;
  std::optional<std::string> expected;
};

/// Visits a field list to make options of its fields.
class OptionVisitor {
 public:
  explicit OptionVisitor(CLI::App& app) : app_(app) {}
  template <class T>
  void operator()(const char* name, T& value, const char* help, const Check<T>& check) {
    std::string option = std::string("--") + name;
    std::replace(option.begin(), option.end(), '_', '-');
    app_.add_option(option, value, help)->check(number(check))->capture_default_str();
  }

 private:
  CLI::App& app_;
};

const ChatTemplate& chat_template(const Session& session) {
  if (const ChatTemplate* found = session.chat_template()) return *found;
  throw UsageError("generate",
                   "{}: the model has no chat template, expected one for --chat; give plain prompts",
                   session.folder().string());
}

Prompt chat_prompt(const Session& session, Json messages, const Json& tools, const std::string& system) {
  Prompt prompt;
  const Json& last = messages.back();
  if (last.value("role", "") == "assistant") {
    prompt.expected = last.value("content", "");
    messages.erase(messages.size() - 1);
  }
  if (messages.empty()) throw DataError("generate", "messages without a question: 0, expected at least one");
  prompt.shown = messages.back().value("content", "");
  if (!system.empty() && messages[0].value("role", "") != "system") {
    messages.insert(messages.begin(), Json{{"role", "system"}, {"content", system}});
  }
  // The template writes every special token itself.
  prompt.input = {.text = chat_template(session).render(
                      {.messages = messages, .tools = tools, .add_generation_prompt = true}),
                  .pair = std::nullopt,
                  .add_special_tokens = false};
  return prompt;
}

Prompt plain_prompt(const Session& session, const GenerateOptions& options, const std::string& text) {
  if (options.chat)
    return chat_prompt(session, Json::array({Json{{"role", "user"}, {"content", text}}}), nullptr,
                       options.system);
  return {.shown = text, .input = {.text = text, .pair = std::nullopt}, .expected = std::nullopt};
}

Prompt json_prompt(const Session& session, const GenerateOptions& options, const Json& row,
                   const std::string& where) {
  if (row.is_object() && row.contains("messages") && row["messages"].is_array() && !row["messages"].empty()) {
    Json messages = Json::array();
    for (const Json& message : row["messages"]) messages.push_back(plain_message(message, where));
    return chat_prompt(session, messages, plain_tools(row.value("tools", Json()), where), options.system);
  }
  for (const char* key : {"prompt", "text"}) {
    if (row.is_object() && row.contains(key) && row[key].is_string()) {
      return plain_prompt(session, options, row[key].get<std::string>());
    }
  }
  throw DataError(where, "row: {}, expected an object with prompt, text or messages",
                  row.dump().substr(0, 80));
}

/// One prompt a line; with the ending .jsonl an object a line.
std::vector<Prompt> file_prompts(const Session& session, const GenerateOptions& options) {
  const std::filesystem::path path = options.prompts_file;
  std::string text = read_file(path);
  drop_byte_order_mark(text);
  std::vector<Prompt> out;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const std::string where = fmt::format("{}:{}", path.string(), number);
    out.push_back(path.extension() == ".jsonl" ? json_prompt(session, options, parse_json(line, where), where)
                                               : plain_prompt(session, options, line));
  }
  if (out.empty()) throw DataError(path.string(), "no prompts: an empty file, expected one a line");
  return out;
}

std::vector<Prompt> prompts_of(const Session& session, const GenerateOptions& options) {
  std::vector<Prompt> out;
  if (!options.prompts_file.empty()) out = file_prompts(session, options);
  for (const std::string& text : options.prompts) out.push_back(plain_prompt(session, options, text));
  if (!out.empty()) return out;
  if (isatty(STDIN_FILENO)) {
    throw UsageError("usage", "nothing to go on from: no prompt, expected --prompt, --prompts or --chat");
  }
  out.push_back(plain_prompt(session, options, {std::istreambuf_iterator<char>(std::cin), {}}));
  return out;
}

std::vector<Generated> answer(const Session& session, const GenerateConfig& config,
                              const std::vector<Prompt>& prompts, const GenerateEvents& events) {
  std::vector<std::vector<int64_t>> ids;
  for (const Prompt& prompt : prompts) ids.push_back(session.tokenizer().encode(prompt.input).ids);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Generated> out =
      Generator(session.model(), session.adapter(), &session.tokenizer()).run(ids, config, events);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  size_t tokens = 0;
  for (const Generated& one : out) tokens += one.ids.size();
  info("{} tokens in {:.2f} s, {:.0f} a second", tokens, seconds.count(),
       static_cast<double>(tokens) / seconds.count());
  return out;
}

void print_piece(std::string_view text) {
  fmt::print("{}", text);
  flush_result();
}

/// Question and answer in turns on a terminal, until the end of input.
int converse(const Session& session, const GenerateOptions& options) {
  chat_template(session);
  Json messages = Json::array();
  std::string line;
  fmt::print(stderr, "Type a message; Ctrl-D ends.\n");
  for (fmt::print(stderr, "> "); std::getline(std::cin, line); fmt::print(stderr, "> ")) {
    if (line.empty()) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    const std::vector<Generated> out =
        answer(session, options.generate, {chat_prompt(session, messages, nullptr, options.system)},
               {.on_text = [](size_t, std::string_view text) { print_piece(text); }, .stop = {}});
    fmt::print("\n");
    messages.push_back({{"role", "assistant"}, {"content", out[0].text}});
  }
  fmt::print(stderr, "\n");
  return 0;
}

Json document_of(const GenerateOptions& options, const std::vector<Prompt>& prompts,
                 const std::vector<Generated>& answers) {
  Json results = Json::array();
  for (size_t i = 0; i < prompts.size(); ++i) {
    Json row = {{"prompt", prompts[i].shown}, {"text", answers[i].text}};
    if (prompts[i].expected) row["expected"] = *prompts[i].expected;
    row["finish"] = finish_name(answers[i].finish);
    row["ids"] = answers[i].ids;
    results.push_back(std::move(row));
  }
  return {{"model", options.model}, {"adapters", options.adapters}, {"results", results}};
}

int run(const GenerateOptions& options, const Globals& globals) {
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  SessionOptions opening{
      .model = options.model, .merged = options.merged, .drop_adapters = options.drop_adapters};
  for (const std::string& adapter : options.adapters) opening.adapters.push_back(adapter_choice(adapter));
  set_dtype(opening.load, options.dtype);
  opening.load.head = text_head(options.model);
  const Session session = Session::open(opening);
  GenerateOptions effective = options;
  effective.generate.eos = eos_ids(session.folder(), session.model().config, &session.tokenizer());
  effective.generate.decoder_start = decoder_start_id(session.folder());
  effective.generate.continues_prompt = false;
  const bool asked = !options.prompts.empty() || !options.prompts_file.empty();
  if (options.chat && !asked && isatty(STDIN_FILENO)) return converse(session, effective);

  const std::vector<Prompt> prompts = prompts_of(session, options);
  effective.generate.continues_prompt =
      prompts[0].input.add_special_tokens;  // a chat's answer is a text of its own
  GenerateEvents events;
  const bool streamed = options.stream && !globals.json && prompts.size() == 1;
  if (streamed) events.on_text = [](size_t, std::string_view text) { print_piece(text); };
  const std::vector<Generated> answers = answer(session, effective.generate, prompts, events);
  if (globals.json) {
    print_result(globals, document_of(options, prompts, answers), "");
  } else if (prompts.size() == 1) {
    fmt::print("{}\n", streamed ? "" : answers[0].text);
  } else {
    for (size_t i = 0; i < prompts.size(); ++i) fmt::print("> {}\n{}\n\n", prompts[i].shown, answers[i].text);
  }
  flush_result();
  return 0;
}

}  // namespace

Run define_generate(CLI::App& app, const Globals& globals) {
  auto options = std::make_shared<GenerateOptions>();
  app.add_option("--model", options->model, "folder of the model, in Hugging Face layout")->required();
  app.add_option("--adapter", options->adapters, "folder of an adapter; FOLDER@WEIGHT; several are merged");
  app.add_option("--drop-adapters", options->drop_adapters,
                 "AdapterDrop: leave out the bottlenecks of this many of the lowest layers")
      ->check(number(between<int64_t>(0, 1000000)));
  app.add_flag("--merged", options->merged, "merge the adapter into the weights first");
  app.add_option("--prompt", options->prompts, "text to go on from; may be given several times");
  app.add_option("--prompts", options->prompts_file,
                 "file with a prompt a line; .jsonl: objects with prompt, text or messages");
  app.add_flag("--chat", options->chat,
               "prompts are messages, put into the model's chat template; without a prompt: a conversation");
  app.add_option("--system", options->system, "system message in front of a chat");
  app.add_option("--max-new-tokens", options->generate.max_new_tokens, "an answer's longest")
      ->check(number(between<int64_t>(0, 1 << 30)))
      ->capture_default_str();
  OptionVisitor visitor(app);
  SamplingConfig::fields(options->generate.sampling, visitor);
  app.add_option("--stop", options->generate.stop, "text that ends an answer; may be given several times");
  app.add_option("--batch-size", options->generate.batch_size, "prompts worked on together")
      ->check(number(between<int64_t>(1, 1 << 20)))
      ->capture_default_str();
  app.add_option("--dtype", options->dtype,
                 "float32, bfloat16, or int8: frozen linear maps multiply in 8 bits, the rest is bfloat16")
      ->capture_default_str();
  app.add_option("--threads", options->threads, "threads; 0: one a core")
      ->check(number(between<int64_t>(0, kMostThreads)))
      ->capture_default_str();
  app.add_flag("--stream,!--no-stream", options->stream, "hand out text as it comes");
  for (const char* several : {"--adapter", "--prompt", "--stop"}) {
    app.get_option(several)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  return [options, &globals, &app] {
    // Asking for a filter means drawing.
    const bool filtered = app.count("--top-k") + app.count("--top-p") + app.count("--min-p") > 0;
    if (filtered && app.count("--temperature") == 0) options->generate.sampling.temperature = 1;
    return run(*options, globals);
  };
}

}  // namespace graft::cli
