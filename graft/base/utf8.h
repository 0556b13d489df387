// UTF-8: the one check that texts from outside go through, and the mark in front of some.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace graft {

/// Offset of the first byte that is not part of well-formed UTF-8 (Unicode 15, table 3-7); nothing where all
/// is well.
std::optional<size_t> first_invalid_utf8(std::string_view text);

/// Takes away the mark (U+FEFF) that some programs put in front of a file's text.
void drop_byte_order_mark(std::string& text);

}  // namespace graft
