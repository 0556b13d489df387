// A template that turns an example into a sequence with a blank to be filled: words, the example's texts,
// pseudo tokens, a mask. Sources: Liu et al. 2021 (P-tuning), Schick and Schütze 2021.
#pragma once
#include <string>
#include <vector>

#include "graft/data/source.h"
#include "graft/tasks/data_config.h"
#include "graft/tasks/word_pieces.h"
#include "graft/text/tokenizer.h"

namespace graft {

/// One piece of a template: words as they stand, {COLUMN}, {mask}, {soft} / {soft:3} / {soft:"words"},
/// {special:[SEP]}; {{ and }} are braces.
struct TemplatePart {
  enum class Kind { words, column, mask, soft, special } kind;
  std::string value;  // of words, column, special; of soft: what the pseudo tokens start as, "" for nothing
  int64_t count = 1;  // of soft
};
/// Errors: UsageError (a brace without its other one, an empty name, not exactly one {mask}).
std::vector<TemplatePart> parse_template(const std::string& text);

class PromptTemplate {
 public:
  struct Reading {
    bool masked = true;  // both sides are read; else the blank is what comes next, and nothing may follow it
    int64_t max_length = 512;
  };
  /// The tokenizer must outlive it. Errors: UsageError, DataError (a token that the tokenizer does not have).
  PromptTemplate(const std::string& text, const DataConfig& data, const Tokenizer& tokenizer,
                 Reading reading);

  struct Filled {
    std::vector<int64_t> ids;  // pseudo token i is -1 - i
    int64_t answer_row = 0;    // the row that the answer is read from
  };
  /// Too long: the longest of the example's texts loses its end. Errors: DataError naming the example.
  Filled fill(const Example& example) const;
  /// What each pseudo token starts as: a token's id, or -1 for nothing.
  const std::vector<int64_t>& pseudo_tokens() const { return pseudo_tokens_; }
  /// The tokens of a word that stands where the mask is. Errors: UsageError (none, or an unknown one).
  std::vector<int64_t> answer_ids(const std::string& word) const;

 private:
  struct Run;
  struct Sequence;
  void add_soft(TemplatePart& part);
  void check_answer() const;
  void end_run(Run& run, Sequence& out) const;
  void shorten(Sequence& sequence, const std::string& where) const;

  /// Those behind a text end what is read from both sides only.
  size_t special_count() const;

  const Tokenizer& tokenizer_;
  WordPieces pieces_;
  Reading reading_;
  std::vector<TemplatePart> parts_;
  std::vector<int64_t> pseudo_tokens_;
};

}  // namespace graft
