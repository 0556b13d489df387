#include "graft/base/utf8.h"

#include <cstring>

namespace graft {
namespace {

/// What may follow a lead byte: how many bytes, and the range of the first of them.
struct Lead {
  size_t following;
  unsigned char low, high;
};

std::optional<Lead> lead(unsigned char c) {
  if (c >= 0xc2 && c <= 0xdf) return Lead{1, 0x80, 0xbf};
  if (c == 0xe0) return Lead{2, 0xa0, 0xbf};
  if (c == 0xed) return Lead{2, 0x80, 0x9f};
  if (c >= 0xe1 && c <= 0xef) return Lead{2, 0x80, 0xbf};
  if (c == 0xf0) return Lead{3, 0x90, 0xbf};
  if (c >= 0xf1 && c <= 0xf3) return Lead{3, 0x80, 0xbf};
  if (c == 0xf4) return Lead{3, 0x80, 0x8f};
  return {};
}

size_t skip_ascii(std::string_view text, size_t at) {
  while (at + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if (word & 0x8080808080808080u) break;
    at += 8;
  }
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view text) {
  for (size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const std::optional<Lead> found = lead(byte(0));
    if (!found || found->following >= text.size() - at) return at;
    if (byte(1) < found->low || byte(1) > found->high) return at;
    for (size_t i = 2; i <= found->following; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return at;
    }
    at += found->following + 1;
  }
  return {};
}

void drop_byte_order_mark(std::string& text) {
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
}

}  // namespace graft
