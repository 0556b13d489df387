#include "graft/text/normalized_text.h"

#include <algorithm>

namespace graft {
namespace {

constexpr std::string_view kSpace = "\u2581";

/// Offsets into `source` for each byte of `normalized` but the first; false where they are not the same but
/// for spaces.
bool align(std::string_view normalized, std::string_view source, std::vector<size_t>& out) {
  size_t at = 0;
  for (size_t i = 0; i < normalized.size();) {
    const bool space = normalized.substr(i).starts_with(kSpace);
    const bool added =
        space && i == 0 && !source.starts_with(' ');  // the space that SentencePiece puts in front
    if (!added) {
      if (at >= source.size() || source[at] != (space ? ' ' : normalized[i])) return false;
      ++at;
    }
    const size_t width = space ? kSpace.size() : 1;
    out.insert(out.end(), width, at);
    i += width;
  }
  return at == source.size();
}

}  // namespace

size_t utf8_size(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

void NormalizedText::append(std::string_view normalized, std::string_view source, size_t begin) {
  if (normalized.empty()) return;
  text_ += normalized;
  std::vector<size_t> inside;
  if (!align(normalized, source, inside)) inside.assign(normalized.size(), source.size());
  origins_.back() = begin;
  for (const size_t offset : inside) origins_.push_back(begin + offset);
}

}  // namespace graft
