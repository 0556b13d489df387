// SentencePiece models: made into a tokenizer.json where the Rust crate is exact on them, else run by
// SentencePiece itself.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graft/text/sentencepiece_file.h"
#include "graft/text/token_model.h"
#include "graft/text/tokenizer_config.h"
#include "graft/text/vocabulary_files.h"

namespace graft {

/// Errors: DataError (not a model, or one that lies about itself).
std::unique_ptr<TokenModel> open_sentencepiece_model(const std::filesystem::path& path,
                                                     const TokenizerConfig& config);

/// What stands around the model's pieces: the template, and tokens that are looked for in the text before
/// anything else.
struct Surroundings {
  TemplateShape shape;
  std::vector<AddedToken> added;  // each with an id, by id
};

/// The text of a tokenizer.json that gives the same ids; nothing where there is none: only BPE with a score
/// of its own for every piece is a list of ranked merges, and only without a character map are the crate's
/// normalizers exact.
std::optional<std::string> sentencepiece_json(const SentencePieceFile& file, const Surroundings& around);

/// Runs SentencePiece on `bytes`, which `file` was read from.
std::unique_ptr<TokenModel> run_sentencepiece(std::string_view bytes, const SentencePieceFile& file,
                                              Surroundings around, const std::string& where);

}  // namespace graft
