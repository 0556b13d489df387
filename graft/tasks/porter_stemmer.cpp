#include "graft/tasks/porter_stemmer.h"

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

namespace graft {
namespace {

using Condition = std::function<bool(std::string_view stem)>;

/// A rule counts once its suffix fits: if the condition then fails, the word stays.
struct Rule {
  std::string_view suffix, replacement;
};

bool is_consonant(std::string_view word, size_t i) {
  const char c = word[i];
  if (c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u') return false;
  return c != 'y' || i == 0 || !is_consonant(word, i - 1);
}

/// How often a vowel is followed by a consonant: Porter's m.
int measure(std::string_view stem) {
  int count = 0;
  for (size_t i = 1; i < stem.size(); ++i) count += !is_consonant(stem, i - 1) && is_consonant(stem, i);
  return count;
}

bool has_vowel(std::string_view stem) {
  for (size_t i = 0; i < stem.size(); ++i) {
    if (!is_consonant(stem, i)) return true;
  }
  return false;
}

bool ends_double(std::string_view word) {
  const size_t n = word.size();
  return n >= 2 && word[n - 1] == word[n - 2] && is_consonant(word, n - 1);
}

bool ends_cvc(std::string_view word) {
  const size_t n = word.size();
  if (n == 2) return !is_consonant(word, 0) && is_consonant(word, 1);
  if (n < 3) return false;
  const char last = word[n - 1];
  return is_consonant(word, n - 3) && !is_consonant(word, n - 2) && is_consonant(word, n - 1) &&
         last != 'w' && last != 'x' && last != 'y';
}

std::string_view without(std::string_view word, size_t count) { return word.substr(0, word.size() - count); }

std::string with(std::string_view stem, std::string_view end) { return std::string(stem).append(end); }

std::string apply(const std::vector<Rule>& rules, std::string_view word, const Condition& condition) {
  for (const Rule& rule : rules) {
    if (!word.ends_with(rule.suffix)) continue;
    const std::string_view stem = without(word, rule.suffix.size());
    return condition(stem) ? with(stem, rule.replacement) : std::string(word);
  }
  return std::string(word);
}

bool at_least_one(std::string_view stem) { return measure(stem) > 0; }

std::string plurals(std::string_view word) {
  if (word.ends_with("ies") && word.size() == 4) return with(without(word, 3), "ie");
  static const std::vector<Rule> rules{{"sses", "ss"}, {"ies", "i"}, {"ss", "ss"}, {"s", ""}};
  return apply(rules, word, [](std::string_view) { return true; });
}

/// What remains where -ed or -ing were taken off.
std::string repaired(std::string_view stem) {
  for (const char* end : {"at", "bl", "iz"}) {
    if (stem.ends_with(end)) return with(stem, "e");
  }
  if (ends_double(stem)) {
    const char last = stem.back();
    return std::string(last == 'l' || last == 's' || last == 'z' ? stem : without(stem, 1));
  }
  return measure(stem) == 1 && ends_cvc(stem) ? with(stem, "e") : std::string(stem);
}

std::string past_forms(std::string_view word) {
  if (word.ends_with("ied")) return with(without(word, 3), word.size() == 4 ? "ie" : "i");
  if (word.ends_with("eed")) {
    const std::string_view stem = without(word, 3);
    return at_least_one(stem) ? with(stem, "ee") : std::string(word);
  }
  for (const std::string_view suffix : {"ed", "ing"}) {
    if (word.ends_with(suffix) && has_vowel(without(word, suffix.size())))
      return repaired(without(word, suffix.size()));
  }
  return std::string(word);
}

std::string final_y(std::string_view word) {
  if (!word.ends_with('y')) return std::string(word);
  const std::string_view stem = without(word, 1);
  return stem.size() > 1 && is_consonant(stem, stem.size() - 1) ? with(stem, "i") : std::string(word);
}

std::string double_suffixes(std::string_view word) {
  if (word.ends_with("alli") && at_least_one(without(word, 4))) return double_suffixes(without(word, 2));
  // The stem of -logi keeps its l, so that short ones (geo-) count.
  if (word.ends_with("logi")) return std::string(at_least_one(without(word, 3)) ? without(word, 1) : word);
  static const std::vector<Rule> rules{
      {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
      {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"}, {"eli", "e"},     {"ousli", "ous"},
      {"ization", "ize"}, {"ation", "ate"},   {"ator", "ate"},  {"alism", "al"},  {"iveness", "ive"},
      {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},  {"iviti", "ive"}, {"biliti", "ble"},
      {"fulli", "ful"}};
  return apply(rules, word, at_least_one);
}

std::string single_suffixes(std::string_view word) {
  static const std::vector<Rule> rules{{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                       {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
  return apply(rules, word, at_least_one);
}

std::string long_endings(std::string_view word) {
  static const std::vector<Rule> rules{{"al", ""},   {"ance", ""}, {"ence", ""}, {"er", ""},    {"ic", ""},
                                       {"able", ""}, {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""},
                                       {"ent", ""},  {"ion", ""},  {"ou", ""},   {"ism", ""},   {"ate", ""},
                                       {"iti", ""},  {"ous", ""},  {"ive", ""},  {"ize", ""}};
  const bool ion = word.ends_with("ion");
  return apply(rules, word, [ion](std::string_view stem) {
    return measure(stem) > 1 && (!ion || stem.ends_with('s') || stem.ends_with('t'));
  });
}

std::string final_e(std::string_view word) {
  if (!word.ends_with('e')) return std::string(word);
  const std::string_view stem = without(word, 1);
  const int m = measure(stem);
  return std::string(m > 1 || (m == 1 && !ends_cvc(stem)) ? stem : word);
}

}  // namespace

std::string porter_stem(std::string_view word) {
  static const std::map<std::string_view, std::string_view> irregular{
      {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
      {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
      {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
      {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"}};
  if (const auto found = irregular.find(word); found != irregular.end()) return std::string(found->second);
  if (word.size() <= 2) return std::string(word);
  std::string stem(word);
  for (const auto step :
       {plurals, past_forms, final_y, double_suffixes, single_suffixes, long_endings, final_e})
    stem = step(stem);
  return stem.ends_with("ll") && measure(without(stem, 1)) > 1 ? std::string(without(stem, 1)) : stem;
}

}  // namespace graft
