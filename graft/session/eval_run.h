// Metrics of a split: of a recipe's model as it stands, or of a finished run.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "graft/session/train_run.h"

namespace graft {

struct EvalRunOptions {
  std::filesystem::path target;          // a recipe file or a run's folder
  std::vector<std::string> overrides{};  // key=value
  std::filesystem::path adapter{};       // with a recipe: an adapter to judge; empty: the plain model
  int64_t drop_adapters = 0;             // its bottlenecks in this many of the lowest layers are left out
  std::string split{};                   // empty: validation, or what there is
  std::filesystem::path predictions{};   // a JSON object a sequence; empty: none
};

/// Errors: UsageError, DataError.
RunReport eval_run(const EvalRunOptions& options);

}  // namespace graft
