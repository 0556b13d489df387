#include "graft/peft/adapt_linears.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "graft/base/log.h"

namespace graft {

void warn_of_conv1d(const LinearMethod& what, const Targets& targets) {
  const auto found = std::find_if(targets.linears.begin(), targets.linears.end(),
                                  [](const auto& target) { return target.second->weight->transposed; });
  if (what.on_conv1d || found == targets.linears.end()) return;
  warn("{} on {}: PEFT has no {} on GPT-2's transposed maps and will not open the file", what.method.name,
       found->first, what.method.peft_type);
}

int64_t count_at(const std::string& path, double value, const char* where) {
  if (value < 1 || value != std::floor(value) || value > 1e6)
    throw UsageError(where, "{} for {}, expected a whole number, 1 to 1000000", value, path);
  return static_cast<int64_t>(value);
}

int64_t rank_at(const std::string& path, const Json& rank_pattern, int64_t r) {
  const double value = pattern_value(path, rank_pattern, static_cast<double>(r), "rank_pattern");
  return count_at(path, value, value == static_cast<double>(r) ? "r" : "rank_pattern");
}

double kaiming_bound(int64_t fan_in) { return 1 / std::sqrt(static_cast<double>(fan_in)); }

Tensor like(const Tensor& x, const Tensor& parameter) { return x.to(parameter.scalar_type()); }

}  // namespace graft
