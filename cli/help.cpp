// graft help: a recipe's keys, from the field lists.
#include "cli/command.h"
#include "graft/session/recipe.h"

namespace graft::cli {

Run define_help(CLI::App& app, const Globals& globals) {
  auto key = std::make_shared<std::string>();
  app.add_option("key", *key, "a recipe's key or part (train.learning_rate, train); all where none is given");
  return [key, &globals] {
    Json rows = Json::array();
    const std::string text = help_text(*key);
    for (const FieldHelp& row : recipe_help()) {
      if (text.find(row.path) == std::string::npos) continue;
      rows.push_back({{"key", row.path},
                      {"default", row.default_value},
                      {"expected", row.expected},
                      {"help", row.help}});
    }
    print_result(globals, rows, text.substr(0, text.size() - 1));
    return 0;
  };
}

}  // namespace graft::cli
