#include "graft/peft/road.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"

namespace graft {
namespace {

struct RoadConfig : CommonConfig, TargetKeys {
  std::string variant = "road_1";
  int64_t group_size = 64;
  bool init_weights = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    visit("variant", self.variant, "angles and scales: one a pair (road_1), one an output (road_2), or two",
          one_of({"road_1", "road_2", "road_4"}));
    visit("group_size", self.group_size, "outputs of a group, whose halves are paired; even",
          at_least<int64_t>(2));
    visit("init_weights", self.init_weights, "outputs start as they are, not at random");
  }
};

/// y = α cos θ ⊙ z + α sin θ ⊙ (z turned by a right angle), z = W x + b; a pair is an output of a group's
/// first half and the one of its second.
class RoadLinear : public LinearHook {
 public:
  RoadLinear(Tensor theta, Tensor alpha, const RoadConfig& config)
      : theta_(std::move(theta)),
        alpha_(std::move(alpha)),
        variant_(config.variant),
        group_size_(config.group_size) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    const Tensor y = base.apply(x);
    return turned(widened(y)).to(y.scalar_type());
  }
  std::optional<Affine> merged(const Linear& base) const override {
    return Affine{turned(widened(base.weight->value()).t()).t(),
                  base.bias ? turned(widened(base.bias->value())) : Tensor()};
  }

 private:
  /// z [..., out] → the same shape.
  Tensor turned(const Tensor& z) const {
    const Tensor halves = z.reshape({-1, 2, group_size_ / 2});
    const Tensor right_angle = at::stack({-halves.select(1, 1), halves.select(1, 0)}, 1).reshape(z.sizes());
    return z * of_outputs(theta_.cos(), 0) + right_angle * of_outputs(theta_.sin(), 1);
  }
  /// α times the angles' cosines (which: 0) or sines (1), of each output.
  Tensor of_outputs(const Tensor& angles, int64_t which) const {
    if (variant_ == "road_2") return alpha_ * angles;
    if (variant_ == "road_4") {
      const auto own = [&](const Tensor& x) { return x.view({-1, 2, group_size_}).select(1, which); };
      return (own(alpha_) * own(angles)).flatten();
    }
    return (alpha_ * angles).view({-1, group_size_ / 2}).repeat_interleave(2, 0).flatten();
  }

  Tensor theta_, alpha_;
  std::string variant_;
  int64_t group_size_;
};

void adapt(AdapterBuilder& builder, const RoadConfig& config, const std::string& path, const Linear& linear) {
  if (config.group_size % 2 != 0 || linear.out() % config.group_size != 0) {
    throw UsageError("group_size", "{} for {} of {} outputs, expected an even divisor of these",
                     config.group_size, path, linear.out());
  }
  const int64_t out = linear.out();
  const std::vector<int64_t> shape{config.variant == "road_1"   ? out / 2
                                   : config.variant == "road_2" ? out
                                                                : 2 * out};
  const auto key = [&](const char* name) { return file_key(path + "." + name); };
  // PEFT's own start for tests.
  constexpr double kDeviation = 0.5;
  const bool still = config.init_weights;
  const Tensor theta = builder.train(
      key("road_theta"), still ? builder.zeros(shape) : builder.normal(key("road_theta"), shape, kDeviation));
  const Tensor alpha = builder.train(
      key("road_alpha"), still ? builder.ones(shape)
                               : builder.ones(shape) + builder.normal(key("road_alpha"), shape, kDeviation));
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<RoadLinear>(theta, alpha, config)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<RoadConfig>({kRoad, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kRoad = {"road", "ROAD", create, method_help<RoadConfig>, 1e-2};

}  // namespace graft
