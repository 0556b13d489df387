// The pages of files that are mapped now, to be given back before the mappings end.
#pragma once
#include <cstddef>

namespace graft {

/// A file lies mapped at these bytes, until forget_mapping.
void note_mapping(const void* begin, size_t bytes);
void forget_mapping(const void* begin);

/// Gives back the memory of a mapped file's pages that lie wholly within these bytes; they are read again
/// when touched. Nothing happens where no one file is mapped there.
void drop_mapped_pages(const void* begin, size_t bytes);

}  // namespace graft
