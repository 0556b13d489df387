#include "graft/peft/c3a.h"

#include <ATen/ATen.h>

#include <cmath>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct C3aConfig : CommonConfig, TargetKeys, LayerKeys {
  int64_t block_size = 256;
  std::string bias = "none";
  Json init_weights = "xavier_uniform", block_size_pattern = Json::object();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    LayerKeys::fields(self, visit);
    visit("block_size", self.block_size, "side of a block; divides the maps' sizes", at_least<int64_t>(1));
    visit("init_weights", self.init_weights, "true: the update starts at zero",
          only_values({true, false, "xavier_uniform", "kaiming_uniform", "gaussian"}));
    visit("block_size_pattern", self.block_size_pattern, "block_size by pattern of the path");
    visit("bias", self.bias, "which biases of the base are trained too", one_of({"none", "all", "c3a_only"}));
  }
};

/// Blocks of ΔW: the number in row i and column j is kernel[(j - i) mod b] / in.
class C3aLinear : public DeltaLinear {
 public:
  explicit C3aLinear(Tensor kernel) : kernel_(std::move(kernel)) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    const int64_t b = kernel_.size(2);
    // Windows of the row laid out twice are the block's rows, the last one first.
    const Tensor rows = at::cat({kernel_, kernel_}, 2).slice(2, 1).unfold(2, b, 1).flip(2);
    return rows.permute({0, 2, 1, 3}).reshape({base.out(), base.in()}) / base.in();
  }

 private:
  Tensor kernel_;  // [out / b, in / b, b]
};

Tensor first_kernel(AdapterBuilder& builder, const Json& init, const std::string& key,
                    const std::vector<int64_t>& shape, const Linear& linear) {
  if (init == Json(true)) return builder.zeros(shape);
  if (init == Json("gaussian")) return builder.normal(key, shape, 1);
  if (init == Json("kaiming_uniform")) return builder.uniform(key, shape, kaiming_bound(linear.in()));
  return builder.uniform(key, shape, std::sqrt(6 / static_cast<double>(linear.in() + linear.out())));
}

void adapt(AdapterBuilder& builder, const C3aConfig& config, const std::string& path, const Linear& linear) {
  const double given = pattern_value_below(path, config.block_size_pattern,
                                           static_cast<double>(config.block_size), "block_size_pattern");
  const int64_t b = count_at(path, given, "block_size_pattern");
  if (linear.in() % b != 0 || linear.out() % b != 0) {
    throw UsageError("block_size", "{} for {} of {}→{}, expected a common divisor of both", b, path,
                     linear.in(), linear.out());
  }
  const std::string key = file_key(path + ".c3a_kernel");
  const std::vector<int64_t> shape{linear.out() / b, linear.in() / b, b};
  const Tensor kernel = builder.train(key, first_kernel(builder, config.init_weights, key, shape, linear));
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<C3aLinear>(kernel)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<C3aConfig>({kC3a, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kC3a = {"c3a", "C3A", create, method_help<C3aConfig>, 0.1};

}  // namespace graft
