// Strings that textkit gives away, freed once whatever happens.
#pragma once
#include <textkit.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace graft {

class OwnedText {
 public:
  OwnedText() = default;
  ~OwnedText() { textkit_string_free(string_); }
  OwnedText(const OwnedText&) = delete;
  OwnedText& operator=(const OwnedText&) = delete;
  /// Where textkit writes; once.
  textkit_string* place() { return &string_; }
  std::string take() const { return string_.data ? std::string(string_.data, string_.size) : std::string(); }

 private:
  textkit_string string_{nullptr, 0};
};

inline textkit_text borrow(std::string_view text) { return {text.data(), text.size()}; }

/// Messages of other software, so that an error stays one line.
inline std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace graft
