// What a recipe's `train:` part is where it does not say: by task, method and start.
#pragma once
#include "graft/base/json.h"

namespace graft {

/// The keys of `train:` whose default depends on the rest of the recipe.
Json train_defaults(const std::string& task, const std::string& method, bool from_scratch);

}  // namespace graft
