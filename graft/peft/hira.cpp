#include "graft/peft/hira.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct HiraConfig : TargetedConfig {
  int64_t r = 32;
  double hira_dropout = 0;
  bool fan_in_fan_out = false;
  Json init_weights = true, rank_pattern = Json::object();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the factor", at_least<int64_t>(1));
    visit("hira_dropout", self.hira_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights, "true, gaussian: the update starts at zero; false: at random",
          only_values({true, false, "gaussian"}));
    visit("rank_pattern", self.rank_pattern, "ranks by pattern of the path");
  }
};

/// ΔW = W ⊙ (B A).
class HiraLinear : public DeltaLinear {
 public:
  HiraLinear(Tensor a, Tensor b, double dropout) : DeltaLinear(dropout), a_(std::move(a)), b_(std::move(b)) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    return widened(base.weight->value()) * at::matmul(b_, a_);
  }

 private:
  Tensor a_, b_;  // [r, in], [out, r]
};

/// A as the config says; B at zero, or both from N(0, 1).
std::pair<Tensor, Tensor> factors(AdapterBuilder& builder, const HiraConfig& config, const std::string& path,
                                  const Linear& linear) {
  const int64_t r = rank_at(path, config.rank_pattern, config.r);
  const std::string a_key = file_key(path + ".hira_A"), b_key = file_key(path + ".hira_B");
  const std::vector<int64_t> a{r, linear.in()}, b{linear.out(), r};
  if (config.init_weights == Json(false)) return {builder.normal(a_key, a, 1), builder.normal(b_key, b, 1)};
  const bool gaussian = config.init_weights == Json("gaussian");
  return {gaussian ? builder.normal(a_key, a, 1 / static_cast<double>(r))
                   : builder.uniform(a_key, a, kaiming_bound(linear.in())),
          builder.zeros(b)};
}

void adapt(AdapterBuilder& builder, const HiraConfig& config, const std::string& path, const Linear& linear) {
  const auto [first_a, first_b] = factors(builder, config, path, linear);
  const Tensor a = builder.train(file_key(path + ".hira_A"), first_a);
  const Tensor b = builder.train(file_key(path + ".hira_B"), first_b);
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<HiraLinear>(a, b, config.hira_dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<HiraConfig>({kHira, TargetColumn::lora, true}, ConfigSource(given), model, seed,
                                   adapt);
}

}  // namespace

const TuningMethod kHira = {"hira", "HIRA", create, method_help<HiraConfig>, 5e-3};

}  // namespace graft
