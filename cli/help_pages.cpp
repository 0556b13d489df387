// graft-engine --help-pages: all help as C++ source, for the launcher.
#include "cli/help_pages.h"

#include "cli/command.h"
#include "graft/session/recipe.h"

namespace graft::cli {
namespace {

std::string literal(const std::string& text) { return "R\"page(" + text + ")page\""; }

}  // namespace

std::string help_pages_source(const CLI::App& app, const std::vector<CLI::App*>& commands) {
  std::string out =
      "#include \"cli/help_pages.h\"\n\nnamespace graft::cli {\n\nconst HelpPage kHelpPages[] = {\n";
  out += fmt::format("  {{\"\", {}}},\n", literal(app.help()));
  for (const CLI::App* command : commands)
    out += fmt::format("  {{{}, {}}},\n", literal(command->get_name()), literal(command->help()));
  out += fmt::format("}};\nconst size_t kHelpPageCount = {};\n\nconst HelpRow kHelpRows[] = {{\n",
                     commands.size() + 1);
  const std::vector<FieldHelp> rows = recipe_help();
  for (const FieldHelp& row : rows) {
    out += fmt::format("  {{{}, {}, {}, {}}},\n", literal(row.path), literal(row.default_value),
                       literal(row.expected), literal(row.help));
  }
  return out +
         fmt::format("}};\nconst size_t kHelpRowCount = {};\n\n}}  // namespace graft::cli\n", rows.size());
}

}  // namespace graft::cli
