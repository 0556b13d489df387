#include "graft/peft/shira.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"
#include "graft/peft/fourierft.h"

namespace graft {
namespace {

struct ShiraConfig : CommonConfig, TargetKeys {
  int64_t r = 32;
  std::string mask_type = "random";
  std::optional<int64_t> random_seed;
  bool fan_in_fan_out = false, init_weights = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    visit("r", self.r, "as many entries as LoRA of this rank has", at_least<int64_t>(1));
    visit("mask_type", self.mask_type, "how they are chosen", one_of({"random"}));
    visit("random_seed", self.random_seed, "seed of their places; null: the run's");
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights, "entries start at zero, not at random");
  }
};

class ShiraLinear : public DeltaLinear {
 public:
  ShiraLinear(Tensor values, Tensor places) : values_(std::move(values)), places_(std::move(places)) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    const Tensor flat = places_.to(at::kLong);
    const Tensor where = flat[0] * base.in() + flat[1];
    return at::zeros({base.out() * base.in()}, values_.options())
        .index_add(0, where, values_)
        .view({base.out(), base.in()});
  }

 private:
  Tensor values_;  // [K]
  Tensor places_;  // [2, K] int32: row, column
};

Adapter create(const Json& given, Model& model, uint64_t seed) {
  const auto adapt = [&](AdapterBuilder& builder, const ShiraConfig& config, const std::string& path,
                         const Linear& linear) {
    const int64_t count = config.r * (linear.in() + linear.out()), room = linear.in() * linear.out();
    if (count > room)
      throw UsageError("r", "{} for {}: {} entries, expected at most the weight's {}", config.r, path, count,
                       room);
    const int64_t drawn = config.random_seed.value_or(static_cast<int64_t>(seed));
    const Tensor chosen = std::get<0>(at::sort(first_of_permutation(room, count, drawn)));
    const Tensor places = at::stack({chosen.div(linear.in(), "floor"), chosen.remainder(linear.in())})
                              .to(at::kInt)
                              .contiguous();
    const std::string key = file_key(path + ".shira_weight");
    const Tensor values =
        builder.train(key, config.init_weights ? builder.zeros({count}) : builder.normal(key, {count}, 1));
    builder.keep(file_key(path + ".shira_indices"), places);
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<ShiraLinear>(values, places)));
  };
  return adapt_linears<ShiraConfig>({kShira, TargetColumn::vera}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kShira = {"shira", "SHIRA", create, method_help<ShiraConfig>};

}  // namespace graft
