// graft train: a recipe becomes a run.
#include "cli/command.h"
#include "graft/base/error.h"
#include "graft/session/train_run.h"

namespace graft::cli {
namespace {

struct TrainArguments {
  std::vector<std::string> recipe;
  bool dry_run = false, resume = false, overwrite = false;
};

/// What goes on with this run.
std::string resume_command(const TrainArguments& arguments) {
  std::string command = "graft train";
  for (const std::string& argument : arguments.recipe) {
    const bool quoted = argument.find_first_of(" \t{}[]*?$'\"") != std::string::npos;
    command += quoted ? " '" + argument + "'" : " " + argument;
  }
  return command + " --resume";
}

int run(const TrainArguments& arguments, const Globals& globals) {
  if (arguments.resume && arguments.overwrite)
    throw UsageError("usage", "--resume and --overwrite are both given, expected one of them");
  const Existing existing = arguments.resume      ? Existing::resume
                            : arguments.overwrite ? Existing::overwrite
                                                  : Existing::refuse;
  const RunReport report =
      train_run(read_recipe(recipe_document(arguments.recipe)),
                {.existing = existing, .dry_run = arguments.dry_run, .command = resume_command(arguments)});
  print_result(globals, report.document, report.text);
  return report.exit_code;
}

}  // namespace

Run define_train(CLI::App& app, const Globals& globals) {
  auto arguments = std::make_shared<TrainArguments>();
  app.add_option("recipe", arguments->recipe, "RECIPE.yaml, then key=value for keys that are to be other")
      ->required();
  app.add_flag("--dry-run", arguments->dry_run,
               "say what would be trained, in how many steps and how much memory");
  app.add_flag("--resume", arguments->resume, "go on where an interrupted run stopped");
  app.add_flag("--overwrite", arguments->overwrite, "begin anew where the output folder holds a run");
  app.footer("The recipe's keys: graft help, graft help KEY");
  return [arguments, &globals] { return run(*arguments, globals); };
}

}  // namespace graft::cli
