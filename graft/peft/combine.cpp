#include "graft/peft/combine.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/base/random.h"

namespace graft {
namespace {

/// The int(density · n) entries of largest size.
Tensor by_magnitude(const Tensor& delta, double density) {
  if (density >= 1) return delta;
  const auto kept = static_cast<int64_t>(density * static_cast<double>(delta.numel()));
  const Tensor flat = delta.reshape({-1});
  const Tensor mask = at::zeros_like(flat);
  mask.index_fill_(0, std::get<1>(at::topk(flat.abs(), kept)), 1);
  return (flat * mask).view(delta.sizes());
}

/// Each entry with probability `density`, and then 1 / density as large.
Tensor by_chance(const Tensor& delta, double density, RandomStream& stream) {
  if (density >= 1) return delta;
  Tensor mask = at::empty(delta.sizes(), at::kDouble);
  double* out = mask.data_ptr<double>();
  for (int64_t i = 0; i < mask.numel(); ++i) out[i] = stream.uniform() < density ? 1 / density : 0;
  return delta * mask.to(delta.scalar_type());
}

/// The mean of the weighted entries that have the elected sign.
Tensor elected(const Tensor& stack, const Tensor& weights, bool by_frequency) {
  const Tensor sum = by_frequency ? stack.sign().sum(0) : stack.sum(0);
  const Tensor sign = at::where(sum.lt(0), -at::ones_like(sum), at::ones_like(sum));
  const Tensor agrees = stack.sign().eq(sign).to(stack.scalar_type());
  return (stack * weights * agrees).sum(0) / agrees.sum(0).clamp_min(1);
}

}  // namespace

const std::vector<std::string>& combine_rules() {
  static const std::vector<std::string> names{
      "linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune"};
  return names;
}

LowRankUpdate nearest(const Tensor& delta, int64_t r) {
  if (!delta.isfinite().all().item<bool>())
    throw DataError("combine", "an update that is not finite, expected sound adapters and models");
  const int64_t rank = std::min({r, delta.size(0), delta.size(1)});
  const auto [u, s, vt] = at::linalg_svd(delta, false);
  return {vt.narrow(0, 0, rank).contiguous(), (u.narrow(1, 0, rank) * s.narrow(0, 0, rank)).contiguous()};
}

LowRankUpdate stacked(const std::vector<LowRankUpdate>& parts, const std::vector<double>& weights) {
  std::vector<Tensor> a, b;
  for (size_t i = 0; i < parts.size(); ++i) {
    a.push_back(parts[i].a * weights[i]);
    b.push_back(parts[i].b);
  }
  return {at::cat(a, 0), at::cat(b, 1)};
}

Tensor combined(const std::vector<Tensor>& deltas, const std::vector<double>& weights,
                const CombineRule& rule, const std::string& name) {
  const auto& known = combine_rules();
  if (std::find(known.begin(), known.end(), rule.name) == known.end())
    throw UsageError("how", "{}, expected one of {}{}", rule.name, fmt::join(known, ", "),
                     did_you_mean(rule.name, known));
  if (!(rule.density > 0 && rule.density <= 1))
    throw UsageError("density", "{}, expected more than 0 and at most 1", rule.density);
  const bool drawn = rule.name.starts_with("dare"), signs = rule.name.ends_with("ties");
  const bool pruned = rule.name == "ties" || rule.name == "magnitude_prune";
  RandomStream stream(rule.seed, name + ".dare");
  std::vector<Tensor> parts;
  for (const Tensor& delta : deltas) {
    parts.push_back(drawn    ? by_chance(delta, rule.density, stream)
                    : pruned ? by_magnitude(delta, rule.density)
                             : delta);
  }
  const Tensor stack = at::stack(parts);
  const Tensor factors = at::tensor(weights, at::kDouble).to(stack.scalar_type()).view({-1, 1, 1});
  return signs ? elected(stack, factors, rule.by_frequency) : (stack * factors).sum(0);
}

}  // namespace graft
