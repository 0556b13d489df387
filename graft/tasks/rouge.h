// ROUGE (Lin 2004) as the package rouge_score computes it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct RougeScore {
  double precision = 0, recall = 0, fmeasure = 0;
};

struct RougeScores {
  RougeScore rouge1, rouge2, rougeL, rougeLsum;
};

/// Lower-case runs of ASCII letters and digits; with `stem` words of more than three characters as their
/// stems.
std::vector<std::string> rouge_tokens(std::string_view text, bool stem);

/// rougeLsum takes each line as a sentence.
RougeScores rouge(std::string_view target, std::string_view prediction, bool stem);

}  // namespace graft
