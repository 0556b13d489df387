// What turns text into ids and back behind a Tokenizer: the Rust crate on a tokenizer.json, or SentencePiece
// on its own model.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graft/text/tokenizer.h"

namespace graft {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// In order. Errors: DataError (not UTF-8).
  virtual std::vector<Encoding> encode(const std::vector<TextInput>& inputs) const = 0;
  /// Ids that are no token are left out.
  virtual std::string decode(const std::vector<int64_t>& ids, bool skip_special_tokens) const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual std::optional<int64_t> token_id(std::string_view token) const = 0;
  virtual std::optional<std::string> id_token(int64_t id) const = 0;
};

/// A tokenizer.json's text in the Rust crate. Errors: DataError naming `where`.
std::unique_ptr<TokenModel> open_crate_model(std::string_view json, std::string where);

}  // namespace graft
