#include "graft/peft/miss.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct MissConfig : TargetedConfig {
  int64_t r = 64, mini_r = 1;
  double miss_dropout = 0;
  Json init_weights = true;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "height of the block", at_least<int64_t>(1));
    visit("mini_r", self.mini_r, "with mini: width of the block", at_least<int64_t>(1));
    visit("miss_dropout", self.miss_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("init_weights", self.init_weights,
          "true; false: random; bat: blocks that see the weight; mini: a narrow block",
          only_values({true, false, "bat", "mini"}));
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "miss_only", "MiSS_only"}));
  }
};

/// ΔW[:, i] = M[i mod r, :]; M [r, out], or [r, mini_r] repeated along the outputs.
class MissLinear : public DeltaLinear {
 public:
  MissLinear(Tensor block, double dropout) : DeltaLinear(dropout), block_(std::move(block)) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    const Tensor wide = block_.repeat({1, base.out() / block_.size(1)});
    const int64_t r = block_.size(0);
    return wide.t().repeat({1, (base.in() + r - 1) / r}).slice(1, 0, base.in());
  }

 private:
  Tensor block_;
};

/// ΔW of a block of W = W_block M + M; M [out / r, r, r], one for each row of blocks.
class BatLinear : public DeltaLinear {
 public:
  explicit BatLinear(Tensor blocks) : blocks_(std::move(blocks)) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    const int64_t r = blocks_.size(2);
    const Tensor weight = base.weight->value().to(blocks_.scalar_type());
    const Tensor split = weight.reshape({base.out() / r, r, base.in() / r, r}).permute({2, 0, 1, 3});
    return (at::matmul(split, blocks_) + blocks_).permute({1, 2, 0, 3}).reshape({base.out(), base.in()});
  }

 private:
  Tensor blocks_;
};

void adapt(AdapterBuilder& builder, const MissConfig& config, const std::string& path, const Linear& linear) {
  const std::string key = file_key(path + ".miss_block");
  const int64_t r = config.r;
  if (r > linear.in())
    throw UsageError("r", "{} for {} with {} inputs, expected no more", r, path, linear.in());
  if (config.init_weights == Json("bat")) {
    if (linear.in() % r != 0 || linear.out() % r != 0) {
      throw UsageError("r", "{} for {} [{}, {}], expected a divisor of both sides", r, path, linear.out(),
                       linear.in());
    }
    const Tensor blocks = builder.train(key, builder.zeros({linear.out() / r, r, r}));
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<BatLinear>(blocks)));
    return;
  }
  const bool mini = config.init_weights == Json("mini");
  if (mini && linear.out() % config.mini_r != 0) {
    throw UsageError("mini_r", "{} for {} with {} outputs, expected a divisor", config.mini_r, path,
                     linear.out());
  }
  const std::vector<int64_t> shape = {r, mini ? config.mini_r : linear.out()};
  const bool random = config.init_weights == Json(false);
  const Tensor block = builder.train(
      key, random ? builder.uniform(key, shape, kaiming_bound(shape[1])) : builder.zeros(shape));
  builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<MissLinear>(block, config.miss_dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<MissConfig>({kMiss, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kMiss = {"miss", "MISS", create, method_help<MissConfig>};

}  // namespace graft
