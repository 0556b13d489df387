#include "graft/peft/vblora.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct VbloraConfig : TargetedConfig {
  int64_t r = 4, num_vectors = 256, vector_length = 256, topk = 2;
  double vblora_dropout = 0, init_vector_bank_bound = 0.02, init_logits_std = 0.1;
  bool fan_in_fan_out = false;
  Json save_only_topk_weights = false;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the update", at_least<int64_t>(1));
    visit("num_vectors", self.num_vectors, "vectors of the bank", at_least<int64_t>(1));
    visit("vector_length", self.vector_length, "their length; divides the maps' sizes", at_least<int64_t>(1));
    visit("topk", self.topk, "vectors that a piece of a factor is mixed of", at_least<int64_t>(1));
    visit("vblora_dropout", self.vblora_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("init_vector_bank_bound", self.init_vector_bank_bound,
          "the bank starts between minus this and this");
    visit("init_logits_std", self.init_logits_std, "deviation of the logits at the start");
    visit("save_only_topk_weights", self.save_only_topk_weights, "files without the logits",
          only_values({false}));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "vblora_only"}));
  }
};

/// W x + b + B A dropout(x); each piece of a row of A, and of a column of B, is the mean of the bank's
/// vectors with its highest logits, weighted by their softmax.
class VbloraLinear : public FactoredLinear {
 public:
  VbloraLinear(Tensor bank, Tensor logits_a, Tensor logits_b, int64_t topk, double dropout)
      : FactoredLinear(1, dropout),
        bank_(std::move(bank)),
        logits_a_(std::move(logits_a)),
        logits_b_(std::move(logits_b)),
        topk_(topk) {}

 protected:
  Factors factors(const Linear&) const override {
    return {mixed(logits_a_).flatten(1), mixed(logits_b_).transpose(1, 2).reshape({-1, logits_b_.size(1)})};
  }

 private:
  /// logits [m, n, vectors] → [m, n, length].
  Tensor mixed(const Tensor& logits) const {
    const auto [highest, which] = logits.topk(topk_, -1);
    const Tensor chosen = bank_.index_select(0, which.flatten()).view({-1, topk_, bank_.size(1)});
    const Tensor weights = highest.softmax(-1).view({-1, 1, topk_});
    return at::matmul(weights, chosen).view({logits.size(0), logits.size(1), bank_.size(1)});
  }
  Tensor bank_;                 // [vectors, length]
  Tensor logits_a_, logits_b_;  // [r, in / length, vectors], [out / length, r, vectors]
  int64_t topk_;
};

Adapter create(const Json& given, Model& model, uint64_t seed) {
  Tensor bank;
  const auto prepare = [&](AdapterBuilder& builder, const VbloraConfig& config, const Targets&) {
    if (config.topk > config.num_vectors) {
      throw UsageError("topk", "{} of num_vectors {}, expected at most so many", config.topk,
                       config.num_vectors);
    }
    const std::string key = "base_model.vblora_vector_bank";
    bank = builder.train(
        key, builder.uniform(key, {config.num_vectors, config.vector_length}, config.init_vector_bank_bound));
  };
  const auto adapt = [&](AdapterBuilder& builder, const VbloraConfig& config, const std::string& path,
                         const Linear& linear) {
    const int64_t length = config.vector_length;
    if (linear.in() % length != 0 || linear.out() % length != 0) {
      throw UsageError("vector_length", "{} for {} of {}→{}, expected a common divisor of both", length, path,
                       linear.in(), linear.out());
    }
    const auto logits = [&](const char* name, const std::vector<int64_t>& shape) {
      const std::string key = file_key(path + "." + name);
      return builder.train(key, builder.normal(key, shape, config.init_logits_std));
    };
    const Tensor a = logits("vblora_logits_A", {config.r, linear.in() / length, config.num_vectors});
    const Tensor b = logits("vblora_logits_B", {linear.out() / length, config.r, config.num_vectors});
    builder.hook(path, std::shared_ptr<LinearHook>(
                           std::make_shared<VbloraLinear>(bank, a, b, config.topk, config.vblora_dropout)));
  };
  return adapt_linears<VbloraConfig>({kVblora, TargetColumn::vblora, true}, ConfigSource(given), model, seed,
                                     adapt, prepare);
}

}  // namespace

const TuningMethod kVblora = {"vblora", "VBLORA", create, method_help<VbloraConfig>, 2e-3};

}  // namespace graft
