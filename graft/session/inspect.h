// What lies at a path: a model, an adapter, a run, a safetensors file; its sizes, and what can be trained.
#pragma once
#include <filesystem>

#include "graft/session/train_run.h"

namespace graft {

/// Reads headers and configs, no weights. Errors: DataError where it is none of them.
RunReport inspect(const std::filesystem::path& path);

}  // namespace graft
