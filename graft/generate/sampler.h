// From logits to the next token: greedy, or drawn after transformers' processors in transformers' order.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "graft/base/fields.h"
#include "graft/base/random.h"

namespace graft {

/// How the next token is chosen. Names, meanings and order of the processors are transformers'.
struct SamplingConfig {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  int64_t seed = 42;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("temperature", self.temperature,
          "logits are divided by it before drawing; 0: always the likeliest token", at_least(0.0));
    visit("top_k", self.top_k, "draw among the so many likeliest tokens; 0: among all", at_least<int64_t>(0));
    visit("top_p", self.top_p, "draw among the likeliest tokens that together have this probability",
          between(0.0, 1.0));
    visit("min_p", self.min_p,
          "leave out tokens less likely than this share of the likeliest one's probability",
          between(0.0, 1.0));
    visit("repetition_penalty", self.repetition_penalty,
          "above 1: tokens that the prompt or the answer has already become less likely", above(0.0));
    visit("seed", self.seed, "of the draws", at_least<int64_t>(0));
  }
};

/// Chooses one sequence's tokens. Each sequence has a stream of its own, so that its company changes nothing.
class Sampler {
 public:
  Sampler(const SamplingConfig& config, int64_t sequence);
  /// `logits` [vocabulary]; `seen`: prompt and answer so far. Errors: DataError where a logit is not a
  /// number.
  int64_t next(std::span<const float> logits, std::span<const int64_t> seen);
  /// The logits after all processors; -inf where a token is left out. The temperature counts only above 0.
  std::vector<float> scores(std::span<const float> logits, std::span<const int64_t> seen) const;

 private:
  SamplingConfig config_;
  RandomStream random_;
};

}  // namespace graft
