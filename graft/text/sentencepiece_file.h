// A SentencePiece model file (protobuf ModelProto), read and checked before SentencePiece's own loader trusts
// it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct SentencePieceFile {
  enum class Kind : uint64_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  enum class Algorithm : uint64_t { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  struct Piece {
    std::string text;
    float score = 0;
    Kind kind = Kind::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false, whitespace_suffix = false;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::string character_map;  // of the normalizer; empty for none

  /// Errors: DataError naming `where`: not such a file, no pieces, a piece twice, no unknown piece, a score
  /// that is no number, a character map that points outside itself.
  static SentencePieceFile parse(std::string_view bytes, const std::string& where);
};

}  // namespace graft
