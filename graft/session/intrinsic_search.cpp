#include "graft/session/intrinsic_search.h"

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"

namespace graft {
namespace {

class Search {
 public:
  Search(std::string method, std::vector<int64_t> grid, const IntrinsicSearchConfig& config,
         const RunTrial& run)
      : method_(std::move(method)), grid_(std::move(grid)), config_(config), run_(run) {}

  /// The first seed walks up from the grid's start; the others begin where it ended.
  std::optional<int64_t> smallest(int64_t seed) {
    const auto hit = walk(seed);
    if (!hit) return {};
    start_ = *hit;
    int64_t high = grid_[*hit];
    if (*hit == 0) return high;
    int64_t low = grid_[*hit - 1];
    for (int64_t i = 0; i < config_.refine; ++i) {
      const auto middle =
          static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(low) * static_cast<double>(high))));
      if (middle <= low || middle >= high) break;
      (reached(middle, seed) ? high : low) = middle;
    }
    return high;
  }

 private:
  std::optional<size_t> walk(int64_t seed) {
    size_t at = start_;
    if (reached(grid_[at], seed)) {
      while (at > 0 && reached(grid_[at - 1], seed)) --at;
      return at;
    }
    for (++at; at < grid_.size(); ++at) {
      if (reached(grid_[at], seed)) return at;
    }
    return {};
  }

  bool reached(int64_t d, int64_t seed) {
    for (const double rate : config_.rates_of(method_)) {
      const double scaled = rate * std::pow(1000.0 / static_cast<double>(d), config_.learning_rate_power);
      IntrinsicTrial wanted;
      wanted.method = method_;
      wanted.d = d;
      wanted.seed = seed;
      wanted.learning_rate = scaled;
      if (run_(wanted).reached) return true;
    }
    return false;
  }

  std::string method_;
  std::vector<int64_t> grid_;
  const IntrinsicSearchConfig& config_;
  const RunTrial& run_;
  size_t start_ = 0;
};

Json number_or_null(const std::optional<int64_t>& number) { return number ? Json(*number) : Json(nullptr); }

}  // namespace

std::vector<int64_t> logarithmic_grid(const IntrinsicSearchConfig& config, int64_t least) {
  if (config.largest < config.smallest)
    throw UsageError("intrinsic.largest", "{}, expected at least intrinsic.smallest = {}", config.largest,
                     config.smallest);
  std::vector<int64_t> grid;
  const double from = std::log10(static_cast<double>(config.smallest));
  const double to = std::log10(static_cast<double>(config.largest));
  const auto steps =
      static_cast<int64_t>(std::ceil((to - from) * static_cast<double>(config.points_per_decade) - 1e-9));
  for (int64_t i = 0; i <= steps; ++i) {
    const double exponent =
        steps ? from + (to - from) * static_cast<double>(i) / static_cast<double>(steps) : from;
    const auto d = static_cast<int64_t>(std::llround(std::pow(10.0, exponent)));
    if (d >= least && (grid.empty() || d > grid.back())) grid.push_back(d);
  }
  return grid;
}

std::vector<int64_t> method_grid(const std::string& method, int64_t least,
                                 const IntrinsicSearchConfig& config) {
  std::vector<int64_t> grid = logarithmic_grid(config, least);
  if (grid.empty()) {
    throw UsageError("intrinsic.largest", "{}, expected at least {}: {} needs so many numbers",
                     config.largest, least, method);
  }
  return grid;
}

SmallestDimension find_smallest_dimension(const std::string& method, int64_t least, int64_t first_seed,
                                          const IntrinsicSearchConfig& config, const RunTrial& run) {
  SmallestDimension out;
  const std::vector<int64_t> grid = method_grid(method, least, config);
  Search search(method, grid, config, run);
  for (int64_t i = 0; i < config.seeds; ++i) out.seeds.push_back(search.smallest(first_seed + i));
  // Seeds that missed the score on the whole grid count as larger than all others.
  std::vector<std::optional<int64_t>> sorted = out.seeds;
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a && (!b || *a < *b); });
  out.low = sorted.front();
  out.high = sorted.back();
  out.value = sorted[sorted.size() / 2];
  out.at_grid_start = out.value == grid.front();
  return out;
}

Json SmallestDimension::json() const {
  Json all = Json::array();
  for (const auto& seed : seeds) all.push_back(number_or_null(seed));
  Json out = {{"value", number_or_null(value)},
              {"low", number_or_null(low)},
              {"high", number_or_null(high)},
              {"seeds", all}};
  if (!value) {
    out["note"] = "most seeds do not reach the threshold on the grid";
  } else if (!high) {
    out["note"] = "a seed does not reach the threshold on the grid";
  } else if (at_grid_start) {
    out["note"] = "the grid's smallest d reaches the threshold: an upper bound";
  }
  return out;
}

}  // namespace graft
