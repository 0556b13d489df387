// The engine behind the launcher: a table of commands, and the one place that catches everything.
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "cli/command.h"
#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/session/recipe.h"

namespace graft::cli {
namespace {

struct Command {
  const char* name;
  const char* summary;
  Define define;
};

// Commands are listed here, once.
const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"bench", "how near training comes to this machine's limits", define_bench},
      {"combine", "a LoRA adapter made of others, or of a tuned model", define_combine},
      {"eval", "metrics of a split", define_eval},
      {"forward", "plain tensors in and out", define_forward},
      {"generate", "text from a causal language model", define_generate},
      {"help", "a recipe's keys and what they mean", define_help},
      {"inspect", "what a model, adapter, run or safetensors file is", define_inspect},
      {"intrinsic", "how many free parameters a task needs (d90)", define_intrinsic},
      {"merge", "base and adapters become a plain checkpoint", define_merge},
      {"tokenize", "text to ids and back, and what a chat template makes of messages", define_tokenize},
      {"train", "trains what a recipe says", define_train},
      {"verify", "reference cases, computed again and compared", define_verify},
  };
  return table;
}

int fail(const char* message, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "graft: {}\n", message);
  return exit_code;
}

/// Errors: UsageError, with the nearest commands.
void check_command(std::string_view name) {
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name == command.name) return;
    names.emplace_back(command.name);
  }
  throw UsageError("usage", "unknown command: {}{}; see graft --help", name, did_you_mean(name, names));
}

/// What CLI11 says of a count of values, in this program's words.
std::string problem_of(const CLI::ParseError& error) {
  const std::string text = error.what();
  if (error.get_name() != "ArgumentMismatch" || text.find(" required ") == text.npos) return text;
  const std::string option = text.substr(0, text.find(':'));
  return option + (text.find("At Most") == text.npos ? ": no value, expected one"
                                                     : ": given more than once, expected once");
}

int run(int argc, char** argv) {
  if (argc > 1 && argv[1][0] != '-') check_command(argv[1]);
  CLI::App app{"parameter-efficient fine-tuning of pretrained language models", "graft"};
  app.add_flag("--version")->description("the program's version");  // the launcher says it
  app.require_subcommand(1);
  Globals globals;
  std::vector<std::pair<CLI::App*, Run>> defined;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary);
    sub->add_flag("--json", globals.json, "one JSON document on standard output");
    sub->add_flag("--quiet", globals.quiet, "no progress, no log");
    defined.emplace_back(sub, command.define(*sub, globals));
  }
  if (argc == 2 && std::strcmp(argv[1], "--help-pages") == 0) {
    std::vector<CLI::App*> subs;
    for (const auto& [sub, command] : defined) subs.push_back(sub);
    fmt::print("{}", help_pages_source(app, subs));
    return 0;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw UsageError("usage", "{}; see graft --help", problem_of(error));
  }
  set_quiet(globals.quiet);
  for (const auto& [sub, command] : defined) {
    if (sub->parsed()) return command();
  }
  return 2;
}

}  // namespace

void print_result(const Globals& globals, const Json& document, const std::string& text) {
  fmt::print("{}\n", globals.json ? document.dump(2, ' ', false, Json::error_handler_t::replace) : text);
  flush_result();
}

void flush_result() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw DataError("standard output", "cannot be written: {}", std::strerror(errno));
}

Json recipe_document(const std::vector<std::string>& arguments) {
  Json document = Json::object();
  const auto is_override = [](const std::string& text) { return text.find('=') != std::string::npos; };
  const auto recipe = std::find_if_not(arguments.begin(), arguments.end(), is_override);
  if (recipe != arguments.end()) document = read_yaml(*recipe);
  for (auto argument = arguments.begin(); argument != arguments.end(); ++argument) {
    if (is_override(*argument)) {
      expand_names(document);
      apply_override(document, *argument);
    } else if (argument != recipe) {
      throw UsageError("usage", "unexpected argument: {}, expected key=value", *argument);
    }
  }
  return document;
}

}  // namespace graft::cli

int main(int argc, char** argv) {
  // A file that meets its limit (ulimit -f) is an error with a message, not the program's end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return graft::cli::run(argc, argv);
  } catch (const graft::Error& error) {
    return graft::cli::fail(error.what(), error.exit_code());
  } catch (const std::bad_alloc&) {
    return graft::cli::fail("[memory] not enough memory for this", 1);
  } catch (const std::exception& error) {
    // libtorch's texts go on with where it was thrown.
    const std::string text = error.what();
    return graft::cli::fail(fmt::format("[internal] {}", text.substr(0, text.find('\n'))).c_str(), 1);
  }
}
