// A SentencePiece BPE model as a list of merges.
#include <algorithm>
#include <unordered_set>

#include "graft/text/sentencepiece_model.h"

namespace graft {
namespace {

using Kind = SentencePieceFile::Kind;

struct Merge {
  std::string_view left, right;
  float score;
};

size_t code_points(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// Runs of spaces: however they are put together, the longest come out, so that they may share a score.
bool only_spaces(std::string_view text) {
  while (text.starts_with("\u2581")) text.remove_prefix(3);
  return text.empty();
}

bool has_ranks(const SentencePieceFile& file) {
  if (file.algorithm != SentencePieceFile::Algorithm::kBpe || !file.character_map.empty()) return false;
  if (file.remove_extra_whitespaces || !file.escape_whitespaces || file.whitespace_suffix) return false;
  std::unordered_set<float> scores;
  for (const auto& piece : file.pieces) {
    if (piece.kind == Kind::kUserDefined || piece.kind == Kind::kUnused) return false;
    // Single characters are never merged to, whatever their score.
    if (piece.kind != Kind::kNormal || code_points(piece.text) < 2 || only_spaces(piece.text)) continue;
    if (!scores.insert(piece.score).second) return false;
  }
  return true;
}

/// Every way to put a piece together from two, in the order in which they apply: by score, and for one piece
/// the longer left part first, as transformers has it.
std::vector<Merge> merges_of(const SentencePieceFile& file) {
  std::unordered_set<std::string_view> known;
  for (const auto& piece : file.pieces) {
    if (piece.kind == Kind::kNormal) known.insert(piece.text);
  }
  std::vector<Merge> merges;
  for (const auto& piece : file.pieces) {
    if (piece.kind != Kind::kNormal) continue;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((text[cut] & 0xc0) == 0x80) continue;
      const std::string_view left = text.substr(0, cut), right = text.substr(cut);
      if (known.contains(left) && known.contains(right)) merges.push_back({left, right, piece.score});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    const size_t left_a = code_points(a.left), left_b = code_points(b.left);
    return left_a != left_b ? left_a > left_b : code_points(a.right) > code_points(b.right);
  });
  return merges;
}

Json decoder_json(bool strip) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (strip) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json normalizer_json(bool prefix) {
  Json steps = Json::array();
  if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

std::string model_json(const SentencePieceFile& file) {
  Json head = {
      {"type", "BPE"}, {"dropout", nullptr}, {"fuse_unk", true}, {"byte_fallback", file.byte_fallback}};
  for (const auto& piece : file.pieces) {
    if (piece.kind == Kind::kUnknown) head["unk_token"] = piece.text;
  }
  std::string out = head.dump();
  out.back() = ',';
  out += "\"vocab\":{";
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    out += (i ? "," : "") + Json(file.pieces[i].text).dump() + ":" + std::to_string(i);
  }
  out += "},\"merges\":[";
  bool first = true;
  for (const Merge& merge : merges_of(file)) {
    if (!first) out += ',';
    first = false;
    out += "[" + Json(merge.left).dump() + "," + Json(merge.right).dump() + "]";
  }
  return out + "]}";
}

}  // namespace

std::optional<std::string> sentencepiece_json(const SentencePieceFile& file, const Surroundings& around) {
  if (!has_ranks(file)) return std::nullopt;
  Json head = {{"truncation", nullptr}, {"padding", nullptr}};
  head["added_tokens"] = added_tokens_json(around.added);
  head["normalizer"] = normalizer_json(file.add_dummy_prefix);
  head["pre_tokenizer"] = nullptr;
  head["post_processor"] = template_json(around.shape);
  head["decoder"] = decoder_json(file.add_dummy_prefix);
  std::string text = head.dump();
  text.back() = ',';
  return text + "\"model\":" + model_json(file) + "}";
}

}  // namespace graft
