#include "graft/peft/hra.h"

#include <ATen/ATen.h>

#include "graft/base/log.h"
#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct HraConfig : TargetedConfig {
  int64_t r = 8;
  bool apply_GS = false, init_weights = true;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "number of reflections; even, so that they start as the identity",
          at_least<int64_t>(1));
    visit("apply_GS", self.apply_GS, "orthogonal reflections, by Gram and Schmidt");
    visit("init_weights", self.init_weights, "reflections start in equal pairs");
    visit("bias", self.bias, "which biases of the base are trained too", one_of({"none", "all", "hra_only"}));
  }
};

Tensor unit(const Tensor& vector) { return vector / vector.norm(); }

/// W' = W (I - 2 u₀u₀ᵀ)(I - 2 u₁u₁ᵀ) …; the last reflection meets x first.
class HraLinear : public RotatedLinear {
 public:
  HraLinear(Tensor vectors, bool orthogonal) : vectors_(std::move(vectors)), orthogonal_(orthogonal) {}

 protected:
  Tensor rotated(const Tensor& x, RandomStream*) const override {
    const std::vector<Tensor> units = orthogonal_ ? orthonormal() : normalised();
    Tensor out = x;
    for (size_t i = units.size(); i-- > 0;) {
      out = out - 2 * at::outer(at::mv(out, units[i]), units[i]);
    }
    return out;
  }

 private:
  std::vector<Tensor> normalised() const {
    std::vector<Tensor> units;
    for (const Tensor& column : vectors_.unbind(1)) units.push_back(unit(column));
    return units;
  }
  std::vector<Tensor> orthonormal() const {
    std::vector<Tensor> units;
    for (const Tensor& column : vectors_.unbind(1)) {
      Tensor rest = column;
      for (const Tensor& known : units) rest = rest - known.dot(column) * known;
      units.push_back(unit(rest));
    }
    return units;
  }
  Tensor vectors_;  // [in, r]
  bool orthogonal_;
};

void adapt(AdapterBuilder& builder, const HraConfig& config, const std::string& path, const Linear& linear) {
  const std::string key = file_key(path + ".hra_u");
  const bool pairs = config.init_weights && config.r % 2 == 0;
  const int64_t drawn = pairs ? config.r / 2 : config.r;
  const Tensor fresh = builder.uniform(key, {linear.in(), drawn}, kaiming_bound(drawn));
  const Tensor vectors = builder.train(key, pairs ? fresh.repeat_interleave(2, 1) : fresh);
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<HraLinear>(vectors, config.apply_GS)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  Adapter adapter = adapt_linears<HraConfig>({kHra, TargetColumn::lora}, source, model, seed, adapt);
  const bool odd =
      adapter.config.value("r", Json(8)).is_number_integer() && adapter.config.value("r", 8) % 2 != 0;
  if (!source.from_file && odd) warn("hra: an odd r starts away from the identity");
  return adapter;
}

}  // namespace

const TuningMethod kHra = {"hra", "HRA", create, method_help<HraConfig>};

}  // namespace graft
