// The program's entry. Loading libtorch takes a third of a second: help, version and mistaken commands are
// answered without it, everything else is the engine's, which lies beside this file or in the library folder.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/help_pages.h"
#include "graft/base/error.h"
#include "graft/base/field_help.h"

namespace graft::cli {
namespace {

namespace fs = std::filesystem;

using Arguments = std::vector<std::string>;

bool asks_for_help(const std::string& argument) { return argument == "--help" || argument == "-h"; }

int print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw DataError("standard output", "cannot be written: {}", std::strerror(errno));
  return 0;
}

/// Errors: UsageError, with the nearest commands.
const HelpPage& page_of(std::string_view command) {
  std::vector<std::string> names;
  for (size_t i = 0; i < kHelpPageCount; ++i) {
    if (command == kHelpPages[i].command) return kHelpPages[i];
    if (*kHelpPages[i].command != 0) names.emplace_back(kHelpPages[i].command);
  }
  throw UsageError("usage", "unknown command: {}{}; see graft --help", command, did_you_mean(command, names));
}

/// graft help [KEY] [--json].
int help(const Arguments& arguments) {
  std::string key;
  bool json = false;
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i] == "--json" || arguments[i] == "--quiet") {
      json = json || arguments[i] == "--json";
    } else if (key.empty() && !arguments[i].starts_with("-")) {
      key = arguments[i];
    } else {
      throw UsageError("usage", "unexpected argument: {}, expected one key; see graft help --help",
                       arguments[i]);
    }
  }
  std::vector<FieldHelp> all;
  for (size_t i = 0; i < kHelpRowCount; ++i) {
    const HelpRow& row = kHelpRows[i];
    all.push_back({row.path, row.default_value, row.expected, row.help});
  }
  const std::vector<FieldHelp> rows = rows_of(all, key);
  return print(json ? help_document(rows).dump(2) + "\n" : help_text(rows));
}

/// Whether others compute on this machine now: in each of a few looks something beside us runs or wants to.
bool others_compute() {
  for (int look = 0; look < 3; ++look) {
    if (look > 0) usleep(1000);
    std::ifstream file("/proc/loadavg");
    double minutes = 0;
    int running = 0;
    if (!(file >> minutes >> minutes >> minutes >> running) || running <= 1) return false;
  }
  return true;
}

/// Becomes the engine. Errors: DataError where there is none.
[[noreturn]] void run_engine(char** argv) {
  // On a machine with other work, threads that wait for each other give their core away soon: spinning would
  // cost a multiple of the run. On a quiet one, waking them costs more. Whoever set it knows better.
  if (others_compute()) setenv("GOMP_SPINCOUNT", "2000", 0);
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path places[] = {folder / "graft-engine", folder / GRAFT_ENGINE_FOLDER / "graft-engine"};
  for (const fs::path& place : places) {
    if (fs::exists(place)) execv(place.c_str(), argv);
  }
  throw DataError(places[0].string(), "cannot be run, expected the engine there or in {}",
                  places[1].string());
}

int run(char** argv) {
  Arguments arguments;
  for (char** argument = argv + 1; *argument != nullptr; ++argument) arguments.emplace_back(*argument);
  if (arguments.empty()) throw UsageError("usage", "A subcommand is required; see graft --help");
  const std::string& first = arguments[0];
  if (asks_for_help(first)) return print(page_of("").text);
  if (first == "--version") return print("graft " GRAFT_VERSION "\n");
  if (first.starts_with("-")) throw UsageError("usage", "unknown option: {}; see graft --help", first);
  const HelpPage& page = page_of(first);
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (asks_for_help(argument)) return print(page.text);
  }
  if (first == "help") return help(arguments);
  run_engine(argv);
}

int fail(const std::string& message, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "graft: {}\n", message);
  return exit_code;
}

}  // namespace
}  // namespace graft::cli

int main(int, char** argv) {
  try {
    return graft::cli::run(argv);
  } catch (const graft::Error& error) {
    return graft::cli::fail(error.what(), error.exit_code());
  } catch (const std::exception& error) {
    return graft::cli::fail(fmt::format("[internal] {}", error.what()), 1);
  }
}
