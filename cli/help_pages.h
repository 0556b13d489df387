// What the program says about itself, as text that needs no engine to be made: the engine writes it while the
// program is built (graft-engine --help-pages).
#pragma once
#include <cstddef>

namespace graft::cli {

struct HelpPage {
  const char* command;  // "": the program
  const char* text;
};
struct HelpRow {
  const char *path, *default_value, *expected, *help;
};

extern const HelpPage kHelpPages[];
extern const size_t kHelpPageCount;
extern const HelpRow kHelpRows[];
extern const size_t kHelpRowCount;

}  // namespace graft::cli
