// The most likely split of a text into the pieces of a unigram model.
//
// SentencePiece finds it too, but its versions before 0.2 compare sums in double with sums rounded to float,
// so that ties between equally likely splits ("!!!!!!") go either way; the newer ones, and this, keep the
// first of equals.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "graft/text/sentencepiece_file.h"

namespace graft {

class Unigram {
 public:
  explicit Unigram(const SentencePieceFile& file);

  struct Part {
    size_t begin, end;  // bytes of the text
    int64_t id;         // -1: one unknown character
  };
  /// `text` is what SentencePiece's normalizer made (spaces as U+2581). Source: Kudo 2018, Viterbi over piece
  /// scores.
  std::vector<Part> split(std::string_view text) const;

 private:
  // A trie: a node's children stand together, by byte.
  struct Node {
    uint32_t first_child = 0;
    int32_t id = -1;
    uint16_t children = 0;
    unsigned char byte = 0;
  };
  struct Best;
  const Node* child(const Node& node, unsigned char byte) const;
  void extend(std::string_view text, size_t start, std::vector<Best>& best) const;

  std::vector<Node> nodes_;
  std::vector<float> scores_;  // by id
  float unknown_score_;
};

}  // namespace graft
