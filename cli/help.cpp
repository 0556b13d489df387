// graft help: a recipe's keys, from the field lists.
#include "cli/command.h"
#include "graft/base/field_help.h"
#include "graft/session/recipe.h"

namespace graft::cli {

Run define_help(CLI::App& app, const Globals& globals) {
  auto key = std::make_shared<std::string>();
  app.add_option("key", *key,
                 "a recipe's key or part (train.learning_rate, method.r, train); all where none is given");
  return [key, &globals] {
    const std::vector<FieldHelp> rows = rows_of(recipe_help(), *key);
    const std::string text = help_text(rows);
    print_result(globals, help_document(rows), text.substr(0, text.size() - 1));
    return 0;
  };
}

}  // namespace graft::cli
