#include "graft/tasks/rouge.h"

#include <algorithm>
#include <map>

#include "graft/tasks/porter_stemmer.h"

namespace graft {
namespace {

using Tokens = std::vector<std::string>;

RougeScore score(double hits, double targets, double predictions) {
  RougeScore out{hits / std::max(predictions, 1.0), hits / std::max(targets, 1.0), 0};
  const double sum = out.precision + out.recall;
  out.fmeasure = sum > 0 ? 2 * out.precision * out.recall / sum : 0;
  return out;
}

std::map<Tokens, int64_t> grams_of(const Tokens& tokens, size_t n) {
  std::map<Tokens, int64_t> counts;
  for (size_t i = 0; i + n <= tokens.size(); ++i) {
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(i);
    ++counts[Tokens(begin, begin + static_cast<std::ptrdiff_t>(n))];
  }
  return counts;
}

RougeScore rouge_n(const Tokens& target, const Tokens& prediction, size_t n) {
  const auto wanted = grams_of(target, n), given = grams_of(prediction, n);
  const auto total = [](const auto& counts) {
    int64_t sum = 0;
    for (const auto& [gram, count] : counts) sum += count;
    return static_cast<double>(sum);
  };
  int64_t hits = 0;
  for (const auto& [gram, count] : wanted) {
    if (const auto found = given.find(gram); found != given.end()) hits += std::min(count, found->second);
  }
  return score(static_cast<double>(hits), total(wanted), total(given));
}

/// Lengths of longest common subsequences of all beginnings, [target + 1][prediction + 1].
std::vector<std::vector<int>> common_lengths(const Tokens& target, const Tokens& prediction) {
  std::vector<std::vector<int>> table(target.size() + 1, std::vector<int>(prediction.size() + 1, 0));
  for (size_t i = 1; i <= target.size(); ++i) {
    for (size_t j = 1; j <= prediction.size(); ++j) {
      table[i][j] = target[i - 1] == prediction[j - 1] ? table[i - 1][j - 1] + 1
                                                       : std::max(table[i - 1][j], table[i][j - 1]);
    }
  }
  return table;
}

/// Marks the target's tokens of one longest common subsequence; of several the one that rouge_score takes.
void mark_common(const Tokens& target, const Tokens& prediction, std::vector<bool>& marked) {
  const auto table = common_lengths(target, prediction);
  size_t i = target.size(), j = prediction.size();
  while (i > 0 && j > 0) {
    if (target[i - 1] == prediction[j - 1]) {
      marked[i - 1] = true;
      --i;
      --j;
    } else if (table[i][j - 1] > table[i - 1][j]) {
      --j;
    } else {
      --i;
    }
  }
}

std::vector<Tokens> sentences(std::string_view text, bool stem) {
  std::vector<Tokens> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) out.push_back(rouge_tokens(text.substr(begin, end - begin), stem));
    begin = end + 1;
  }
  return out;
}

std::map<std::string, int64_t> counts_of(const std::vector<Tokens>& sentences) {
  std::map<std::string, int64_t> counts;
  for (const Tokens& sentence : sentences) {
    for (const std::string& token : sentence) ++counts[token];
  }
  return counts;
}

/// For each sentence of the target what any sentence of the prediction has in common with it; no token is
/// counted more often than both sides have it.
RougeScore rouge_l_sum(const std::vector<Tokens>& target, const std::vector<Tokens>& prediction) {
  auto wanted = counts_of(target), given = counts_of(prediction);
  const auto size = [](const std::vector<Tokens>& all) {
    size_t sum = 0;
    for (const Tokens& one : all) sum += one.size();
    return static_cast<double>(sum);
  };
  int64_t hits = 0;
  for (const Tokens& sentence : target) {
    std::vector<bool> marked(sentence.size(), false);
    for (const Tokens& other : prediction) mark_common(sentence, other, marked);
    for (size_t i = 0; i < sentence.size(); ++i) {
      if (!marked[i] || wanted[sentence[i]] <= 0 || given[sentence[i]] <= 0) continue;
      ++hits;
      --wanted[sentence[i]];
      --given[sentence[i]];
    }
  }
  return score(static_cast<double>(hits), size(target), size(prediction));
}

}  // namespace

std::vector<std::string> rouge_tokens(std::string_view text, bool stem) {
  Tokens out;
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) out.push_back(stem && word.size() > 3 ? porter_stem(word) : word);
    word.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      word += static_cast<char>(upper ? c - 'A' + 'a' : c);
    } else if (text.substr(i).starts_with("\u212a")) {  // the Kelvin sign's lower case is k
      word += 'k';
      i += 2;
    } else if (text.substr(i).starts_with("\u0130")) {  // i and a dot that is no letter
      word += 'i';
      finish();
      i += 1;
    } else {
      finish();
    }
  }
  finish();
  return out;
}

RougeScores rouge(std::string_view target, std::string_view prediction, bool stem) {
  const Tokens wanted = rouge_tokens(target, stem), given = rouge_tokens(prediction, stem);
  RougeScores out;
  out.rouge1 = rouge_n(wanted, given, 1);
  out.rouge2 = rouge_n(wanted, given, 2);
  out.rougeL = score(common_lengths(wanted, given).back().back(), static_cast<double>(wanted.size()),
                     static_cast<double>(given.size()));
  out.rougeLsum = rouge_l_sum(sentences(target, stem), sentences(prediction, stem));
  return out;
}

}  // namespace graft
