#include "graft/tasks/word_pieces.h"

#include <algorithm>

namespace graft {

WordPieces::WordPieces(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const auto count = [&](const char* text) {
    return tokenizer_.encode({.text = text, .pair = std::nullopt, .add_special_tokens = false}).ids.size();
  };
  keeps_blank_ = count(" a") == count("a");
  const Encoding around = tokenizer_.encode({.text = "a", .pair = std::nullopt});
  bool behind = false;
  for (size_t i = 0; i < around.ids.size(); ++i) {
    behind = behind || !around.special[i];
    if (around.special[i]) (behind ? after_ : before_).push_back(around.ids[i]);
  }
}

size_t WordPieces::dropped(const std::string& text) const {
  return keeps_blank_ ? 0 : std::min(text.find_first_not_of(' '), text.size());
}

Encoding WordPieces::encode(const std::string& text) const {
  return tokenizer_.encode(
      {.text = text.substr(dropped(text)), .pair = std::nullopt, .add_special_tokens = false});
}

}  // namespace graft
