// Base and adapters become a plain checkpoint.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "graft/session/session.h"
#include "graft/session/train_run.h"

namespace graft {

struct MergeRunOptions {
  std::filesystem::path model, out;
  std::vector<AdapterChoice> adapters;
  std::string dtype{};                     // of the written weights; empty: the checkpoint's own
  int64_t shard_bytes = int64_t{5} << 30;  // a weights file's largest size
};

/// Computes in float32 whatever is written. Errors: UsageError (the output is taken; a method without merged
/// form), DataError.
RunReport merge_run(const MergeRunOptions& options);

}  // namespace graft
