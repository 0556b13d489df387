// Spans of a text that are hidden behind sentinels (T5, Raffel et al. 2020, section 3.1.4).
#pragma once
#include <cstdint>
#include <vector>

#include "graft/base/random.h"
#include "graft/tasks/source_target.h"

namespace graft {

struct SpanNoise {
  double density = 0.15;   // share of the tokens that is hidden
  double mean_length = 3;  // of a hidden span, in tokens

  /// How a text of `length` ≥ 2 tokens is cut: hidden tokens and spans, rounded as numpy does (halves to
  /// even).
  struct Counts {
    int64_t hidden, spans;
  };
  Counts counts(int64_t length) const;
  /// The longest text whose source, sentinels and end token included, has at most `limit` ids; 0: none of two
  /// tokens.
  int64_t text_length(int64_t limit) const;
};

/// True for hidden tokens. The first span is kept, the last one hidden, spans between are composed at random:
/// as transformers' and T5's random_spans_noise_mask without roll.
std::vector<bool> noise_mask(int64_t length, const SpanNoise& noise, RandomStream& random);

/// Source: each hidden run becomes the next sentinel. Target: each hidden run behind its sentinel, and where
/// kept tokens end the text, one sentinel more. Both get `end`. `sentinels`: ids in their order; at least as
/// many as are needed (InternalError).
SourceTarget corrupted(const std::vector<int64_t>& ids, const std::vector<bool>& hidden,
                       const std::vector<int64_t>& sentinels, int64_t end);

/// The ids of <extra_id_0>, <extra_id_1>, … as far as the tokenizer has them, at most 100.
std::vector<int64_t> sentinel_ids(const Tokenizer& tokenizer);

}  // namespace graft
