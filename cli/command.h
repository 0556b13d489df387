// A command: its options, and what runs when it is chosen. One file a command, one line in main.cpp's table.
#pragma once
#include <CLI/App.hpp>
#include <functional>
#include <string>
#include <vector>

#include "graft/base/json.h"

namespace graft::cli {

/// What every command is told.
struct Globals {
  bool json = false;   // one JSON document on standard output
  bool quiet = false;  // no progress, no log
};

/// → exit code.
using Run = std::function<int()>;

/// Adds the command's options to `app`; the returned function runs it after parsing.
using Define = Run (*)(CLI::App& app, const Globals& globals);

/// Positional arguments of recipe commands: one RECIPE.yaml, then key=value overrides. Errors: UsageError.
Json recipe_document(const std::vector<std::string>& arguments);

/// Prints the document with --json, else the text; to standard output.
void print_result(const Globals& globals, const Json& document, const std::string& text);
/// Errors: DataError where something printed to standard output did not arrive.
void flush_result();

/// C++ source of all help pages: the program's, the commands' and the recipe's keys.
std::string help_pages_source(const CLI::App& app, const std::vector<CLI::App*>& commands);

Run define_bench(CLI::App& app, const Globals& globals);
Run define_combine(CLI::App& app, const Globals& globals);
Run define_eval(CLI::App& app, const Globals& globals);
Run define_forward(CLI::App& app, const Globals& globals);
Run define_generate(CLI::App& app, const Globals& globals);
Run define_tokenize(CLI::App& app, const Globals& globals);
Run define_help(CLI::App& app, const Globals& globals);
Run define_inspect(CLI::App& app, const Globals& globals);
Run define_intrinsic(CLI::App& app, const Globals& globals);
Run define_merge(CLI::App& app, const Globals& globals);
Run define_train(CLI::App& app, const Globals& globals);
Run define_verify(CLI::App& app, const Globals& globals);

}  // namespace graft::cli
