// One training run from recipe to run folder.
#pragma once
#include <string>

#include "graft/session/recipe.h"
#include "graft/session/run_folder.h"

namespace graft {

struct TrainRunOptions {
  Existing existing = Existing::refuse;
  bool dry_run = false;
  std::string command{};  // what goes on with an interrupted run, for its message
};

/// What a command prints, and how it ends.
struct RunReport {
  Json document;
  std::string text;
  int exit_code = 0;
};

/// Errors: UsageError, DataError.
RunReport train_run(const Recipe& recipe, const TrainRunOptions& options);

}  // namespace graft
