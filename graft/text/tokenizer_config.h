// What lies beside a tokenizer: tokenizer_config.json, special_tokens_map.json, added_tokens.json.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "graft/base/json.h"

namespace graft {

/// A token that stands outside the model's vocabulary rules.
struct AddedToken {
  std::string text;
  std::optional<int64_t> id;
  bool lstrip = false, rstrip = false, normalized = false, special = true;
};

struct TokenizerConfig {
  Json document = Json::object();  // tokenizer_config.json as it stands
  /// "bos_token" → its text; "" where the files say that there is none (null).
  std::map<std::string, std::string> named;
  std::vector<AddedToken> added;  // with ids first, in their order

  /// Files that are not there count as empty. Errors: DataError.
  static TokenizerConfig open(const std::filesystem::path& folder);

  std::string tokenizer_class() const;  // without "Fast"; "" where not given
  bool flag(const char* name, bool otherwise) const;
};

}  // namespace graft
