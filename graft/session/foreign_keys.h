// Keys of a recipe that are other programs' names, or stand in another part than graft has them in.
#pragma once
#include "graft/base/json.h"

namespace graft {

/// Looks at a recipe's parts and their keys; a method is a mapping with its name, or a list of such. Errors:
/// UsageError for a key that the part does not have and that has a name elsewhere in graft, which it says.
void refuse_foreign_keys(const Json& document);

}  // namespace graft
