// Sequences into one packed batch, and what truncation leaves of an encoding.
#pragma once
#include <string>
#include <vector>

#include "graft/tasks/task.h"

namespace graft {

/// Ids, type ids (where one of the sequences has them) and layout; rows and labels stay undefined.
TaskBatch pack(const std::vector<Features>& features, const std::vector<int64_t>& indices);

/// At most `max_length` ids: the template's special tokens stay, the longest text loses its end first (equal
/// ones: as the crate `tokenizers` shares out, longest_first). Errors: DataError naming `where` when the
/// special tokens alone are too many.
void truncate(Encoding& encoding, int64_t max_length, const std::string& where);

/// A column's value as text: strings as they are, numbers and booleans as JSON writes them. Errors: DataError
/// (no such column, the nearest ones named; or not a plain value).
std::string text_of(const Example& example, const std::string& column);

/// The model's longest sequence, at most `wish` (0: at most 512).
int64_t length_limit(int64_t wish, int64_t max_positions);

}  // namespace graft
