// Entries of a zip archive that are stored as they are (not compressed). Files from outside are hostile.
#pragma once
#include <cstddef>
#include <map>
#include <span>
#include <string>

namespace graft {

/// Name → bytes within `archive`. Errors: DataError (no archive, a compressed entry, bounds outside of the
/// file).
std::map<std::string, std::span<const std::byte>> stored_entries(std::span<const std::byte> archive,
                                                                 const std::string& where);

}  // namespace graft
