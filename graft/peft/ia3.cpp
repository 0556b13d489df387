#include "graft/peft/ia3.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/peft/adapt_linears.h"

namespace graft {
namespace {

struct Ia3Config : CommonConfig, TargetKeys, ExcludeKeys {
  Json feedforward_modules;
  bool fan_in_fan_out = false, init_ia3_weights = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    ExcludeKeys::fields(self, visit);
    visit("feedforward_modules", self.feedforward_modules,
          "targets whose input is scaled, not their output: names, or a regular expression");
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_ia3_weights", self.init_ia3_weights, "scales start at one, not at random");
  }
};

/// l ⊙ (W x + b).
class Ia3Output : public LinearHook {
 public:
  explicit Ia3Output(Tensor scale) : scale_(std::move(scale)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    const Tensor y = base.apply(x);
    return (y * scale_.view({-1})).to(y.scalar_type());
  }
  std::optional<Affine> merged(const Linear& base) const override {
    return Affine{widened(base.weight->value()) * scale_,
                  base.bias ? widened(base.bias->value()) * scale_.view({-1}) : Tensor()};
  }

 private:
  Tensor scale_;  // [out, 1]
};

/// W (l ⊙ x) + b.
class Ia3Input : public LinearHook {
 public:
  explicit Ia3Input(Tensor scale) : scale_(std::move(scale)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    return base.apply((x * scale_).to(x.scalar_type()));
  }
  std::optional<Affine> merged(const Linear& base) const override {
    return Affine{widened(base.weight->value()) * scale_, base.bias ? widened(base.bias->value()) : Tensor()};
  }

 private:
  Tensor scale_;  // [1, in]
};

/// PEFT's test, without a dot before the name.
bool is_feedforward(const std::string& path, const Json& rule) {
  if (rule.is_string()) return matches_regex(path, rule.get<std::string>(), "feedforward_modules");
  std::vector<std::string> names;
  if (!rule.is_null()) read_value(rule, names, "feedforward_modules");
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return path.ends_with(name); });
}

void adapt(AdapterBuilder& builder, const Ia3Config& config, const std::string& path, const Linear& linear) {
  const std::string key = file_key(path + ".ia3_l");
  const bool input = is_feedforward(path, config.feedforward_modules);
  const std::vector<int64_t> shape =
      input ? std::vector<int64_t>{1, linear.in()} : std::vector<int64_t>{linear.out(), 1};
  const Tensor scale =
      builder.train(key, config.init_ia3_weights ? builder.ones(shape) : builder.normal(key, shape, 1));
  if (input) {
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<Ia3Input>(scale)));
  } else {
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<Ia3Output>(scale)));
  }
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  const bool no_targets = source.json.value("target_modules", Json()).is_null();
  if (!source.from_file && source.json.value("feedforward_modules", Json()).is_null() && no_targets) {
    source.json["feedforward_modules"] =
        default_targets(TargetColumn::ia3_feedforward, model.info().model_type);
  }
  return adapt_linears<Ia3Config>({kIa3, TargetColumn::ia3, true}, source, model, seed, adapt);
}

}  // namespace

const TuningMethod kIa3 = {"ia3", "IA3", create, method_help<Ia3Config>, 3e-3};

}  // namespace graft
