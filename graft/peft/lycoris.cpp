#include "graft/peft/lycoris.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"

namespace graft {

int64_t LycorisConfig::rank(const std::string& path) const { return rank_at(path, rank_pattern, r); }

double LycorisConfig::scale(const std::string& path) const {
  return pattern_value(path, alpha_pattern, alpha, "alpha_pattern") / static_cast<double>(rank(path));
}

Tensor LycorisLinear::delta(const Linear&, RandomStream* dropout) const {
  if (!dropout) return update();
  if (dropout_.module > 0 && dropout->uniform() < dropout_.module) return {};
  const Tensor full = update();
  if (dropout_.rank <= 0) return full;
  std::vector<double> kept(static_cast<size_t>(full.size(0)));
  for (double& one : kept) one = dropout->uniform() > dropout_.rank ? 1 : 0;
  Tensor rows = at::tensor(kept, full.options());
  if (dropout_.rescale) rows = rows / rows.mean().clamp_min(1e-12);
  return full * rows.unsqueeze(1);
}

}  // namespace graft
