// Parts of a text as tokens, where the whole is put together from parts: words that have labels, templates.
#pragma once
#include <string>
#include <vector>

#include "graft/text/tokenizer.h"

namespace graft {

class WordPieces {
 public:
  /// The tokenizer must outlive it.
  explicit WordPieces(const Tokenizer& tokenizer);

  /// Without special tokens. Blanks in front are a part of the first word where the tokenizer has it so (byte
  /// pairs), and are dropped where it puts one there itself (sentencepiece).
  Encoding encode(const std::string& text) const;
  /// How many bytes of blanks at the text's beginning encode() drops.
  size_t dropped(const std::string& text) const;
  /// Special tokens that the tokenizer's template puts around one text.
  const std::vector<int64_t>& before() const { return before_; }
  const std::vector<int64_t>& after() const { return after_; }

 private:
  const Tokenizer& tokenizer_;
  std::vector<int64_t> before_, after_;
  bool keeps_blank_ = false;
};

}  // namespace graft
