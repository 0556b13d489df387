#include "graft/peft/lokr.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/lycoris.h"

namespace graft {
namespace {

struct LokrConfig : LycorisConfig {
  bool decompose_both = false, rank_dropout_scale = false;
  int64_t decompose_factor = -1;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    LycorisConfig::fields(self, visit);
    visit("decompose_both", self.decompose_both, "the smaller factor is of low rank too");
    visit("decompose_factor", self.decompose_factor, "size of the smaller factor; -1: as even as may be",
          at_least<int64_t>(-1));
    visit("rank_dropout_scale", self.rank_dropout_scale, "rows that rank_dropout leaves count more");
  }
};

/// A factor, whole or as a product.
struct Factor {
  Tensor whole, a, b;
  Tensor value() const { return whole.defined() ? whole : at::matmul(a, b); }
};

/// s · kron(w1, w2).
class LokrLinear : public LycorisLinear {
 public:
  LokrLinear(Factor first, Factor second, double scale, LycorisDropout dropout)
      : LycorisLinear(dropout), first_(std::move(first)), second_(std::move(second)), scale_(scale) {}

 protected:
  Tensor update() const override { return scale_ * at::kron(first_.value(), second_.value()); }

 private:
  Factor first_, second_;
  double scale_;
};

/// One factor's tensors; `zero`: the product starts at zero.
Factor make_factor(AdapterBuilder& builder, const std::string& key, std::pair<int64_t, int64_t> shape,
                   int64_t r, bool zero) {
  const auto fresh = [&](const std::string& name, std::vector<int64_t> size, bool zeros) {
    return builder.train(name,
                         zeros ? builder.zeros(size) : builder.uniform(name, size, kaiming_bound(size[1])));
  };
  Factor factor;
  if (r == 0) {
    factor.whole = fresh(key, {shape.first, shape.second}, zero);
    return factor;
  }
  // PEFT zeroes the first half of w1, and the second of w2: either makes the product zero.
  const bool first = key.ends_with("w1");
  factor.a = fresh(key + "_a", {shape.first, r}, zero && first);
  factor.b = fresh(key + "_b", {r, shape.second}, zero && !first);
  return factor;
}

void adapt(AdapterBuilder& builder, const LokrConfig& config, const std::string& path, const Linear& linear) {
  const int64_t r = config.rank(path);
  const auto [l, k] = lokr_factors(linear.out(), config.decompose_factor);
  const auto [m, n] = lokr_factors(linear.in(), config.decompose_factor);
  const bool split_first = config.decompose_both && 2 * r < std::max(l, m);
  const bool split_second = 2 * r < std::max(k, n);
  Factor first = make_factor(builder, file_key(path + ".lokr_w1"), {l, m}, split_first ? r : 0,
                             config.init_weights == Json(true));
  Factor second = make_factor(builder, file_key(path + ".lokr_w2"), {k, n}, split_second ? r : 0,
                              config.init_weights == Json("lycoris"));
  const LycorisDropout dropout{config.rank_dropout, config.module_dropout, config.rank_dropout_scale};
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<LokrLinear>(
                         std::move(first), std::move(second), config.scale(path), dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<LokrConfig>({kLokr, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

std::pair<int64_t, int64_t> lokr_factors(int64_t size, int64_t factor) {
  if (factor > 0 && size % factor == 0) return {factor, size / factor};
  const int64_t limit = factor == -1 ? size : factor;
  int64_t small = 1, large = size, sum = small + large;
  while (small < large) {
    int64_t next = small + 1;
    while (size % next != 0) ++next;
    const int64_t other = size / next;
    if (next + other > sum || next > limit) break;
    small = next;
    large = other;
    sum = small + large;
  }
  return small > large ? std::pair{large, small} : std::pair{small, large};
}

const TuningMethod kLokr = {"lokr", "LOKR", create, method_help<LokrConfig>};

}  // namespace graft
