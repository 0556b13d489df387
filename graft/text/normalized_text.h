// What SentencePiece's normalizer made of a text, put together from an answer's pieces, and where each place
// of it comes from.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// The bytes of the character that begins with this byte, in well-formed UTF-8.
size_t utf8_size(char lead);

class NormalizedText {
 public:
  /// The next piece: its normalized text, and the bytes of the source that it stands for.
  void append(std::string_view normalized, std::string_view source, size_t begin);
  const std::string& text() const { return text_; }
  /// The place in the source of a place in the text. Inside a piece that the normalizer changed it is the
  /// piece's end.
  size_t origin(size_t at) const { return origins_[at]; }

 private:
  std::string text_;
  std::vector<size_t> origins_ = {0};
};

}  // namespace graft
