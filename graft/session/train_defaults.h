// What a recipe's `train:` part is where it does not say: by task, method and start.
#pragma once
#include <string>
#include <vector>

#include "graft/base/json.h"

namespace graft {

/// The keys of `train:` whose default depends on the rest of the recipe. Of several methods the smallest
/// learning rate counts.
Json train_defaults(const std::string& task, const std::vector<std::string>& methods, bool from_scratch);

}  // namespace graft
