// UTF-8: the one check that texts from outside go through.
#pragma once
#include <optional>
#include <string_view>

namespace graft {

/// Offset of the first byte that is not part of well-formed UTF-8 (Unicode 15, table 3-7); nothing where all
/// is well.
std::optional<size_t> first_invalid_utf8(std::string_view text);

}  // namespace graft
