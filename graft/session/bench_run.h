// How near training steps and generation come to this machine's limits: limits first, then the work, in one
// process.
#pragma once
#include <string>
#include <vector>

#include "graft/session/train_run.h"

namespace graft {

struct BenchOptions {
  std::vector<std::string> works;  // empty: limits only
  std::string dtype = "bfloat16";  // as in a recipe's model.dtype
  int64_t steps = 5;               // of training; eight tokens each, where text is generated
  int64_t threads = 0;             // 0: as they are
};

/// The known works, in order; "generate" stands for all large ones that begin so.
std::vector<std::string> bench_works();

/// Errors: UsageError (an unknown work; the nearest named).
RunReport bench_run(const BenchOptions& options);

}  // namespace graft
