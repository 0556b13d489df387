// The keys of a document as help shows them.
#pragma once
#include <string>
#include <vector>

#include "graft/base/fields.h"

namespace graft {

/// Rows of a key ("train.learning_rate", "learning_rate") or a part ("train"); all for "". Errors: UsageError
/// with the nearest keys.
std::vector<FieldHelp> rows_of(const std::vector<FieldHelp>& rows, const std::string& key);
/// Rows as text, each of two lines.
std::string help_text(const std::vector<FieldHelp>& rows);
/// Rows as a list of objects: key, default, expected, help.
Json help_document(const std::vector<FieldHelp>& rows);

}  // namespace graft
