// Low-rank updates made of others: sums, pruned sums, the nearest of a given rank.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "graft/nn/layout.h"

namespace graft {

/// ΔW = b a.
struct LowRankUpdate {
  Tensor a;  // [r, in]
  Tensor b;  // [out, r]
};

/// The nearest of at most rank r in the Frobenius norm: A = Vᵀ, B = U S. Source: Eckart and Young 1936.
LowRankUpdate nearest(const Tensor& delta, int64_t r);

/// Σ w ΔW, exactly: A's rows under each other, B's columns beside each other.
LowRankUpdate stacked(const std::vector<LowRankUpdate>& parts, const std::vector<double>& weights);

struct CombineRule {
  std::string name = "linear";  // linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune
  double density = 1;           // the share of each ΔW's entries that is kept, for all but the first three
  bool by_frequency = false;    // ties: the sign that most entries have, not that of their sum
  uint64_t seed = 0;            // of DARE's draws
};
/// Every name; errors speak of them.
const std::vector<std::string>& combine_rules();

/// The full update [out, in] that the rule makes of `deltas`; `name` seeds the draws. Sources: Yadav et al.
/// 2023 (TIES), Yu et al. 2024 (DARE), on the updates themselves and not, as PEFT's forms without "_svd" do,
/// on A and B apart. Errors: UsageError (density outside (0, 1]).
Tensor combined(const std::vector<Tensor>& deltas, const std::vector<double>& weights,
                const CombineRule& rule, const std::string& name);

}  // namespace graft
