// The search for the smallest d that reaches a score: a walk over a logarithmic grid, then bisection, seed by
// seed.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graft/base/fields.h"
#include "graft/session/intrinsic_config.h"

namespace graft {

/// One training run of the search; method "full" has d = 0.
struct IntrinsicTrial {
  std::string method;
  int64_t d = 0, seed = 0;
  double learning_rate = 0;
  double score = 0;  // the best evaluation's, up to where the run was stopped
  bool reached = false;
  int64_t steps = 0;
  double seconds = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("method", self.method, "full, said or did");
    visit("d", self.d, "trained numbers; 0: all");
    visit("seed", self.seed, "of the map, the data's order and dropout");
    visit("learning_rate", self.learning_rate, "the optimizer's");
    visit("score", self.score, "best score; a run that reached the threshold was stopped there");
    visit("reached", self.reached, "the threshold was reached");
    visit("steps", self.steps, "optimizer steps");
    visit("seconds", self.seconds, "its time");
  }
  /// The same run, whatever came of it.
  bool same_run(const IntrinsicTrial& other) const {
    return method == other.method && d == other.d && seed == other.seed &&
           learning_rate == other.learning_rate;
  }
};

/// Numbers from `smallest` to `largest`, both included, evenly spaced in logarithm; none below `least`.
std::vector<int64_t> logarithmic_grid(const IntrinsicSearchConfig& config, int64_t least);

/// A method's grid. Errors: UsageError where it is empty.
std::vector<int64_t> method_grid(const std::string& method, int64_t least,
                                 const IntrinsicSearchConfig& config);

/// d at which a method reaches the score.
struct SmallestDimension {
  std::optional<int64_t> value{};  // the middle seed's; nothing where most seeds miss it on the whole grid
  std::optional<int64_t> low,
      high;                    // smallest and largest seed's; nothing where a seed that decides it missed
  bool at_grid_start = false;  // the grid's first d reached it: the true one may be smaller
  std::vector<std::optional<int64_t>> seeds{};

  Json json() const;
};

/// Carries out the run (method, d, seed, learning_rate are filled in) and says how it went.
using RunTrial = std::function<IntrinsicTrial(const IntrinsicTrial& wanted)>;

/// The search for one method; `least` is the smallest d that it can have.
SmallestDimension find_smallest_dimension(const std::string& method, int64_t least, int64_t first_seed,
                                          const IntrinsicSearchConfig& config, const RunTrial& run);

}  // namespace graft
