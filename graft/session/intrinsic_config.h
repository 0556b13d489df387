// The `intrinsic:` part of a recipe: which numbers of free parameters are tried, and how.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graft/base/fields.h"

namespace graft {

struct IntrinsicSearchConfig {
  std::vector<std::string> methods{"said", "did"};
  int64_t smallest = 10, largest = 10000, points_per_decade = 3, refine = 3, seeds = 3;
  double share = 0.9, learning_rate_power = 0.5;
  std::vector<double> learning_rates{1e-2}, said_learning_rates{};
  std::optional<double> full_score{};
  Json full = Json::object();
  Json method = Json::object();
  std::string name{};

  /// What is tried for a method.
  const std::vector<double>& rates_of(const std::string& chosen) const {
    return chosen == "said" && !said_learning_rates.empty() ? said_learning_rates : learning_rates;
  }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("methods", self.methods, "which of said and did are measured");
    visit("smallest", self.smallest, "the grid's smallest d", at_least<int64_t>(1));
    visit("largest", self.largest, "the grid's largest d", at_least<int64_t>(1));
    visit("points_per_decade", self.points_per_decade, "how dense the logarithmic grid is",
          between<int64_t>(1, 100));
    visit("refine", self.refine, "bisections between the grid's last miss and first hit",
          between<int64_t>(0, 30));
    visit("seeds", self.seeds, "how many seeds: train.seed and those that follow", between<int64_t>(1, 1000));
    visit("share", self.share, "the share of full fine-tuning's score that is to be reached",
          between(0.0, 1.0));
    visit("learning_rates", self.learning_rates,
          "step sizes at d = 1000, tried in order until one reaches the score");
    visit("said_learning_rates", self.said_learning_rates,
          "said's, which want to be smaller: its numbers move every tensor; empty: learning_rates");
    visit("learning_rate_power", self.learning_rate_power, "step sizes count (1000 / d) to this power");
    visit("full_score", self.full_score, "full fine-tuning's score; null: it is trained first");
    visit("full", self.full, "keys of `train` that are other for full fine-tuning");
    visit("method", self.method,
          "keys of the methods said and did: projection, gradient, target_tensors, head");
    visit("name", self.name, "the model's name in the table; empty: its folder's");
  }
};

}  // namespace graft
