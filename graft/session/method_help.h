// The methods' own keys as help shows them.
#pragma once
#include <vector>

#include "graft/base/fields.h"

namespace graft {

/// Every method's keys, "method.KEY", in the order in which the methods first have them. Methods for which a
/// key is the same share a row, whose help begins with their names.
std::vector<FieldHelp> help_on_methods();

}  // namespace graft
