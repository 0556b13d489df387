#include "graft/text/sentencepiece_file.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "graft/base/error.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

using Kind = SentencePieceFile::Kind;

/// One field of a protobuf message: a number (varint, fixed) or bytes.
struct Field {
  uint64_t number, value;
  std::string_view bytes;
};

/// Walks the fields of a message. Errors: DataError.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const uint64_t tag = varint();
    field = {tag >> 3, 0, {}};
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.bytes = take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.bytes = take(4);
        break;
      default:
        fail();
    }
    if (field.number == 0) fail();
    return true;
  }

 private:
  [[noreturn]] void fail() const {
    throw DataError(where_, "not a SentencePiece model, or a broken one; is the file whole?");
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail();
  }

  std::string_view take(uint64_t size) {
    if (size > bytes_.size()) fail();
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  const std::string& where_;
};

SentencePieceFile::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceFile::Piece piece;
  Field field;
  for (Message message(bytes, where); message.next(field);) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2 && field.bytes.size() == 4) std::memcpy(&piece.score, field.bytes.data(), 4);
    if (field.number == 3) piece.kind = static_cast<Kind>(field.value);
  }
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& where, SentencePieceFile& file) {
  Field field;
  for (Message message(bytes, where); message.next(field);) {
    if (field.number == 3) file.algorithm = static_cast<SentencePieceFile::Algorithm>(field.value);
    if (field.number == 24) file.whitespace_suffix = field.value != 0;
    if (field.number == 35) file.byte_fallback = field.value != 0;
  }
}

void read_normalizer(std::string_view bytes, const std::string& where, SentencePieceFile& file) {
  Field field;
  for (Message message(bytes, where); message.next(field);) {
    if (field.number == 2) file.character_map = field.bytes;
    if (field.number == 3) file.add_dummy_prefix = field.value != 0;
    if (field.number == 4) file.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) file.escape_whitespaces = field.value != 0;
  }
}

/// The map is a double-array trie with the texts it points to behind; SentencePiece follows its offsets
/// unchecked.
void check_character_map(const std::string& map, const std::string& where) {
  if (map.empty()) return;
  const auto fail = [&] { throw DataError(where, "the normalizer's character map is broken"); };
  uint32_t trie_bytes = 0;
  if (map.size() <= sizeof trie_bytes) fail();
  std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  if (trie_bytes < 1024 || trie_bytes % 1024 != 0 || trie_bytes >= map.size() - sizeof trie_bytes) fail();
  const std::string_view texts = std::string_view(map).substr(sizeof trie_bytes + trie_bytes);
  if (texts.back() != '\0') fail();
  const size_t units = trie_bytes / 4;
  for (size_t i = 0; i < units; ++i) {
    uint32_t unit;
    std::memcpy(&unit, map.data() + sizeof trie_bytes + 4 * i, sizeof unit);
    if (unit >> 31) {
      if ((unit & 0x7fffffff) >= texts.size()) fail();
      continue;
    }
    const size_t offset = (unit >> 10) << ((unit & (1u << 9)) >> 6);
    if (((i ^ offset) | 0xff) >= units) fail();
  }
}

bool is_byte_piece(std::string_view text) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') && hex(text[3]) && hex(text[4]);
}

void check_pieces(const SentencePieceFile& file, const std::string& where) {
  if (file.pieces.empty()) throw DataError(where, "a model without pieces; is it a SentencePiece model?");
  std::unordered_set<std::string_view> seen;
  size_t unknown = 0;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const SentencePieceFile::Piece& piece = file.pieces[i];
    if (piece.text.empty() || piece.text.find('\0') != std::string::npos || first_invalid_utf8(piece.text)) {
      throw DataError(where, "piece {}: its text is empty or not UTF-8", i);
    }
    if (!seen.insert(piece.text).second)
      throw DataError(where, "piece {}: \"{}\" is there twice", i, piece.text);
    if (!std::isfinite(piece.score)) throw DataError(where, "piece {}: its score is not a number", i);
    if (piece.kind < Kind::kNormal || piece.kind > Kind::kByte)
      throw DataError(where, "piece {}: unknown kind", i);
    if (piece.kind == Kind::kByte && !is_byte_piece(piece.text)) {
      throw DataError(where, "piece {}: \"{}\", expected a byte as <0xE4>", i, piece.text);
    }
    unknown += piece.kind == Kind::kUnknown;
  }
  if (unknown != 1) throw DataError(where, "pieces for unknown text: {}, expected 1", unknown);
}

}  // namespace

SentencePieceFile SentencePieceFile::parse(std::string_view bytes, const std::string& where) {
  SentencePieceFile file;
  Field field;
  for (Message message(bytes, where); message.next(field);) {
    if (field.number == 1) file.pieces.push_back(read_piece(field.bytes, where));
    if (field.number == 2) read_trainer(field.bytes, where, file);
    if (field.number == 3) read_normalizer(field.bytes, where, file);
    if (field.number == 5) {
      SentencePieceFile denormalizer;
      read_normalizer(field.bytes, where, denormalizer);
      check_character_map(denormalizer.character_map, where);
    }
  }
  check_pieces(file, where);
  check_character_map(file.character_map, where);
  if (file.algorithm < Algorithm::kUnigram || file.algorithm > Algorithm::kChar) {
    throw DataError(where, "unknown model type: {}", static_cast<uint64_t>(file.algorithm));
  }
  return file;
}

}  // namespace graft
