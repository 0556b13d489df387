// A growing answer as text: handed out character by character, cut at the first stop string.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// Gathers decoded pieces. What might be the beginning of a stop string is held back until that is decided.
class TextOutput {
 public:
  explicit TextOutput(std::vector<std::string> stop);
  /// → what can be handed out now ("" for nothing yet).
  std::string add(std::string_view piece);
  /// True once a stop string was met; the text ends before it.
  bool stopped() const { return stopped_; }
  /// → what was held back, when nothing more will come.
  std::string finish();
  /// All that was handed out.
  const std::string& text() const { return text_; }

 private:
  std::string release(size_t count);
  std::vector<std::string> stop_;
  std::string text_, pending_;
  bool stopped_ = false;
};

}  // namespace graft
