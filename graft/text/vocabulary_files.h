// Tokenizers that come without a tokenizer.json: vocabulary files, from which one is made.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "graft/text/token_model.h"
#include "graft/text/tokenizer_config.h"

namespace graft {

/// The folder's SentencePiece model, vocab.txt, or vocab.json with merges.txt; null where it has none of
/// them. Errors: DataError.
std::unique_ptr<TokenModel> open_vocabulary_files(const std::filesystem::path& folder,
                                                  const TokenizerConfig& config);

/// BERT's vocab.txt (a token a line) → the text of a tokenizer.json, as transformers' BertTokenizer makes it.
std::string wordpiece_json(const std::filesystem::path& vocab, const TokenizerConfig& config);

/// GPT-2's vocab.json and merges.txt → the text of a tokenizer.json; RoBERTa's and Qwen2's by their class or
/// tokens.
std::string byte_level_json(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                            const TokenizerConfig& config);

/// An id must be known to stand in a template or among the added tokens.
struct PlacedToken {
  std::string text;
  int64_t id;
};

/// TemplateProcessing around one text or a pair: "first A separator B last", the pair's second part with type
/// 1 where asked.
struct TemplateShape {
  std::vector<PlacedToken> before, after;  // around one text
  std::vector<PlacedToken> between;        // between the two of a pair
  int64_t between_type = 0, second_type = 1;
};
Json template_json(const TemplateShape& shape);

/// The "added_tokens" of a tokenizer.json. Tokens without an id are left out.
Json added_tokens_json(const std::vector<AddedToken>& tokens);

}  // namespace graft
