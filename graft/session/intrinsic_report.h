// What a search for intrinsic dimension shows: a figure, its numbers, a table beside the published rows.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "graft/session/intrinsic_search.h"

namespace graft {

struct IntrinsicResult {
  std::string model, task, metric;
  double full_score = 0, threshold = 0;
  std::map<std::string, SmallestDimension> d90;  // by method
  std::vector<IntrinsicTrial> trials;            // in the order in which they ran
};

/// method,d,seed,learning_rate,score,reached,steps,seconds: a line a run.
std::string intrinsic_csv(const IntrinsicResult& result);
/// Score against d (logarithmic axis), a mark a run, a line through the best mean of each d, and the
/// threshold.
std::string intrinsic_svg(const IntrinsicResult& result);
/// Markdown: models × tasks × (SAID, DID), the published rows first.
std::string intrinsic_table(const IntrinsicResult& result);

}  // namespace graft
