#include "graft/text/unigram.h"

#include <algorithm>
#include <deque>
#include <limits>

#include "graft/text/normalized_text.h"

namespace graft {
namespace {

using Kind = SentencePieceFile::Kind;

/// How much worse than the worst piece an unknown character is (SentencePiece's constant).
constexpr float kUnknownPenalty = 10;

}  // namespace

/// The best split that ends at a place.
struct Unigram::Best {
  float score = 0;
  int64_t start = -1, id = -1;

  void offer(float candidate, size_t from, int64_t piece) {
    if (start >= 0 && candidate <= score) return;
    score = candidate;
    start = static_cast<int64_t>(from);
    id = piece;
  }
};

Unigram::Unigram(const SentencePieceFile& file) : nodes_(1) {
  float low = std::numeric_limits<float>::max(), high = -low;
  std::vector<std::pair<std::string_view, int32_t>> sorted;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const SentencePieceFile::Piece& piece = file.pieces[i];
    scores_.push_back(piece.score);
    if (piece.kind == Kind::kNormal) {
      low = std::min(low, piece.score);
      high = std::max(high, piece.score);
    }
    if (piece.kind == Kind::kNormal || piece.kind == Kind::kUserDefined)
      sorted.emplace_back(piece.text, static_cast<int32_t>(i));
  }
  unknown_score_ = low - kUnknownPenalty;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    // A user's piece wins over whatever else covers its text.
    if (file.pieces[i].kind != Kind::kUserDefined) continue;
    scores_[i] =
        static_cast<float>(static_cast<double>(file.pieces[i].text.size()) * static_cast<double>(high) - 0.1);
  }
  std::sort(sorted.begin(), sorted.end());
  struct Range {
    size_t low, high, depth;
    uint32_t node;
  };
  std::deque<Range> open = {{0, sorted.size(), 0, 0}};
  for (; !open.empty(); open.pop_front()) {
    const Range range = open.front();
    size_t at = range.low;
    if (at < range.high && sorted[at].first.size() == range.depth)
      nodes_[range.node].id = sorted[at++].second;
    nodes_[range.node].first_child = static_cast<uint32_t>(nodes_.size());
    while (at < range.high) {
      const char byte = sorted[at].first[range.depth];
      const size_t begin = at;
      while (at < range.high && sorted[at].first[range.depth] == byte) ++at;
      open.push_back({begin, at, range.depth + 1, static_cast<uint32_t>(nodes_.size())});
      nodes_.emplace_back().byte = static_cast<unsigned char>(byte);
      ++nodes_[range.node].children;
    }
  }
}

const Unigram::Node* Unigram::child(const Node& node, unsigned char byte) const {
  const Node* const first = nodes_.data() + node.first_child;
  const Node* const last = first + node.children;
  const Node* const found =
      std::lower_bound(first, last, byte, [](const Node& a, unsigned char b) { return a.byte < b; });
  return found != last && found->byte == byte ? found : nullptr;
}

void Unigram::extend(std::string_view text, size_t start, std::vector<Best>& best) const {
  const float so_far = best[start].score;
  const size_t single = start + utf8_size(text[start]);
  bool has_single = false;
  const Node* node = nodes_.data();
  for (size_t at = start;
       at < text.size() && (node = child(*node, static_cast<unsigned char>(text[at]))) != nullptr;) {
    ++at;
    if (node->id < 0) continue;
    has_single |= at == single;
    best[at].offer(scores_[static_cast<size_t>(node->id)] + so_far, start, node->id);
  }
  if (!has_single && single <= text.size()) best[single].offer(unknown_score_ + so_far, start, -1);
}

std::vector<Unigram::Part> Unigram::split(std::string_view text) const {
  std::vector<Best> best(text.size() + 1);
  for (size_t start = 0; start < text.size(); start += utf8_size(text[start])) {
    extend(text, start, best);
  }
  std::vector<Part> parts;
  for (size_t end = text.size(); end > 0 && best[end].start >= 0;) {
    const auto start = static_cast<size_t>(best[end].start);
    parts.push_back({start, end, best[end].id});
    end = start;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace graft
