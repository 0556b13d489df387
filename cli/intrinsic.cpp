// graft intrinsic: how many free parameters a fine-tuning task needs.
#include "cli/command.h"
#include "graft/base/error.h"
#include "graft/session/intrinsic_run.h"

namespace graft::cli {
namespace {

struct IntrinsicArguments {
  std::vector<std::string> recipe;
  bool resume = false, overwrite = false;
};

std::string resume_command(const IntrinsicArguments& arguments) {
  std::string command = "graft intrinsic";
  for (const std::string& argument : arguments.recipe) {
    const bool quoted = argument.find_first_of(" \t{}[]*?$'\"") != std::string::npos;
    command += quoted ? " '" + argument + "'" : " " + argument;
  }
  return command + " --resume";
}

int run(const IntrinsicArguments& arguments, const Globals& globals) {
  if (arguments.resume && arguments.overwrite)
    throw UsageError("usage", "--resume and --overwrite are both given, expected one of them");
  const Existing existing = arguments.resume      ? Existing::resume
                            : arguments.overwrite ? Existing::overwrite
                                                  : Existing::refuse;
  const RunReport report = intrinsic_run(read_intrinsic_recipe(recipe_document(arguments.recipe)),
                                         {.existing = existing, .command = resume_command(arguments)});
  print_result(globals, report.document, report.text);
  return report.exit_code;
}

std::string footer() {
  std::string text = "The recipe's part `intrinsic`:\n";
  for (const FieldHelp& row : intrinsic_help())
    text += fmt::format("  {} = {}\n      {}\n", row.path, row.default_value, row.help);
  return text + "All other keys: graft help";
}

}  // namespace

Run define_intrinsic(CLI::App& app, const Globals& globals) {
  auto arguments = std::make_shared<IntrinsicArguments>();
  app.add_option("recipe", arguments->recipe, "RECIPE.yaml, then key=value for keys that are to be other")
      ->required();
  app.add_flag("--resume", arguments->resume, "go on where an interrupted search stopped");
  app.add_flag("--overwrite", arguments->overwrite, "begin anew where the output folder holds a search");
  app.footer(footer());
  return [arguments, &globals] { return run(*arguments, globals); };
}

}  // namespace graft::cli
