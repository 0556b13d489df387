// What an adapter's folder says about the head that its base must get: task type, labels.
#pragma once
#include <filesystem>

#include "graft/models/model.h"

namespace graft {

/// Fills in head, number of labels, label names and replicated layers where `options` does not say: from
/// adapter_config.json's task type, the saved head's shape, and the run's recipe.yaml where there is one.
/// Errors: DataError (no adapter's folder).
LoadOptions with_adapter_head(LoadOptions options, const std::filesystem::path& adapter);

}  // namespace graft
