#include "graft/peft/delora.h"

#include <ATen/ATen.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct DeloraConfig : TargetedConfig {
  int64_t r = 8;
  double delora_lambda = 15, module_dropout = 0;
  bool init_weights = true;
  std::string bias = "none";
  Json rank_pattern = Json::object(), lambda_pattern = Json::object();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("r", self.r, "rank of the update", at_least<int64_t>(1));
    visit("delora_lambda", self.delora_lambda, "bound of the update's norm at the start; it is trained");
    visit("module_dropout", self.module_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("init_weights", self.init_weights, "the update starts at zero, not at random");
    visit("rank_pattern", self.rank_pattern, "ranks by pattern of the path");
    visit("lambda_pattern", self.lambda_pattern, "delora_lambda by pattern of the path");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "delora_only"}));
  }
};

struct DeloraTensors {
  Tensor a, b;    // [r, in], [out, r]
  Tensor lambda;  // [1]
  Tensor w_norm;  // [in]: norms of the base's columns when the adapter was made
};

/// W x + b + Σ λ / (r ‖Aᵢ‖ ‖Bᵢ‖) Bᵢ Aᵢ (‖W‖ ⊙ dropout(x)).
class DeloraLinear : public FactoredLinear {
 public:
  DeloraLinear(DeloraTensors tensors, double dropout)
      : FactoredLinear(1, dropout), tensors_(std::move(tensors)) {}

 protected:
  Factors factors(const Linear&) const override {
    const auto& [a, b, lambda, w_norm] = tensors_;
    const Tensor norms = a.norm(2, 1).clamp_min(kLeastNorm) * b.norm(2, 0).clamp_min(kLeastNorm);
    return {a * w_norm, b * (lambda / static_cast<double>(a.size(0)) / norms)};
  }

 private:
  static constexpr double kLeastNorm = 1e-4;
  DeloraTensors tensors_;
};

void adapt(AdapterBuilder& builder, const DeloraConfig& config, const std::string& path,
           const Linear& linear) {
  const int64_t r = rank_at(path, config.rank_pattern, config.r);
  const double lambda = pattern_value(path, config.lambda_pattern, config.delora_lambda, "lambda_pattern");
  const auto key = [&](const char* name) { return file_key(path + "." + name); };
  const std::vector<int64_t> a{r, linear.in()}, b{linear.out(), r};
  DeloraTensors tensors;
  tensors.a = builder.train(key("delora_A"), builder.uniform(key("delora_A"), a, kaiming_bound(linear.in())));
  tensors.b = builder.train(key("delora_B"), config.init_weights
                                                 ? builder.zeros(b)
                                                 : builder.uniform(key("delora_B"), b, kaiming_bound(r)));
  tensors.lambda = builder.train(key("delora_lambda"), builder.ones({1}) * lambda);
  tensors.w_norm = widened(linear.weight->base).norm(2, 0);
  builder.keep(key("delora_w_norm"), tensors.w_norm);
  builder.hook(path,
               std::shared_ptr<LinearHook>(std::make_shared<DeloraLinear>(tensors, config.module_dropout)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<DeloraConfig>({kDelora, TargetColumn::lora}, ConfigSource(given), model, seed, adapt);
}

}  // namespace

const TuningMethod kDelora = {"delora", "DELORA", create, method_help<DeloraConfig>, 3e-3};

}  // namespace graft
