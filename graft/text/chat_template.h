// Messages to text by a model's Jinja chat template (minijinja with Python's methods), as transformers
// renders it.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "graft/base/json.h"

namespace graft {

class ChatTemplate {
 public:
  /// The template of a model's folder: chat_template.jinja, else tokenizer_config.json's chat_template (a
  /// string, or the list's "default"). Its special tokens (bos_token, …) become variables. Nothing where the
  /// model has none.
  static std::optional<ChatTemplate> open(const std::filesystem::path& folder);
  /// The special tokens that the folder's files name, as a template sees them: {"bos_token": …}.
  static Json special_tokens(const std::filesystem::path& folder);
  /// `variables`: special tokens the template sees.
  ChatTemplate(std::string source, Json variables);

  struct Request {
    Json messages;         // [{"role", "content", …}]
    Json tools = nullptr;  // null: none
    bool add_generation_prompt = false;
    Json extra = Json::object();  // further variables
  };
  /// Errors: DataError with what raise_exception said, or the template's own error.
  std::string render(const Request& request) const;
  const std::string& source() const { return source_; }

 private:
  std::string source_;
  Json variables_;
};

}  // namespace graft
