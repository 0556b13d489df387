#include "graft/peft/vera.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "graft/base/error.h"
#include "graft/peft/builder.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct VeraConfig : CommonConfig, TargetKeys, LayerKeys {
  int64_t r = 256, projection_prng_key = 0;
  bool save_projection = true, fan_in_fan_out = false, init_weights = true;
  double vera_dropout = 0, d_initial = 0.1;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    LayerKeys::fields(self, visit);
    visit("r", self.r, "rank of the shared maps", at_least<int64_t>(1));
    visit("projection_prng_key", self.projection_prng_key, "seed of the shared maps", at_least<int64_t>(0));
    visit("save_projection", self.save_projection, "the shared maps are in the file too");
    visit("vera_dropout", self.vera_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("d_initial", self.d_initial, "initial value of the scales of the ranks");
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "vera_only"}));
    visit("init_weights", self.init_weights, "as d_initial says");
  }
};

/// W x + b + λ_b ⊙ B (λ_d ⊙ A dropout(x)), A and B the shared maps' first columns and rows.
class VeraLinear : public FactoredLinear {
 public:
  VeraLinear(Tensor a, Tensor b, Tensor lambda_b, Tensor lambda_d, double dropout)
      : FactoredLinear(1, dropout),
        a_(std::move(a)),
        b_(std::move(b)),
        lambda_b_(std::move(lambda_b)),
        lambda_d_(std::move(lambda_d)) {}

 protected:
  Factors factors(const Linear& base) const override {
    return {lambda_d_.unsqueeze(1) * a_.slice(1, 0, base.in()),
            lambda_b_.unsqueeze(1) * b_.slice(0, 0, base.out())};
  }

 private:
  Tensor a_, b_, lambda_b_, lambda_d_;
};

Adapter create(const Json& given, Model& model, uint64_t seed) {
  ConfigSource source(given);
  auto config = read_method_config<VeraConfig>(source, kVera.peft_type, model);
  AdapterBuilder builder(kVera, source, model, seed);
  const Targets targets = builder.find(config, TargetColumn::vera);
  if (!targets.embeddings.empty()) {
    throw UsageError("target_modules", "{} is an embedding, expected linear maps",
                     targets.embeddings[0].first);
  }
  builder.set_fan_in_fan_out(targets);
  int64_t in = 0, out = 0;
  for (const auto& [path, linear] : targets.linears) {
    in = std::max(in, linear->in());
    out = std::max(out, linear->out());
  }
  auto [a, b] = vera_projections(config.projection_prng_key, config.r, in, out);
  a = a.to(builder.zeros({1}).scalar_type());
  b = b.to(a.scalar_type());
  if (config.save_projection) {
    builder.keep("base_model.vera_A", a);
    builder.keep("base_model.vera_B", b);
  }
  for (const auto& [path, linear] : targets.linears) {
    const Tensor lambda_b = builder.train(file_key(path + ".vera_lambda_b"), builder.zeros({linear->out()}));
    const Tensor lambda_d =
        builder.train(file_key(path + ".vera_lambda_d"), builder.ones({config.r}) * config.d_initial);
    builder.hook(path, std::shared_ptr<LinearHook>(
                           std::make_shared<VeraLinear>(a, b, lambda_b, lambda_d, config.vera_dropout)));
  }
  builder.train_saved_modules(saved_modules(config.modules_to_save, config.task_type));
  builder.train_biases(config.bias, targets);
  return builder.finish();
}

}  // namespace

std::pair<Tensor, Tensor> vera_projections(int64_t seed, int64_t r, int64_t in, int64_t out) {
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
  const double a_bound = std::sqrt(6 / static_cast<double>(in)),
               b_bound = std::sqrt(6 / static_cast<double>(r));
  Tensor a = at::empty({r, in}, at::kFloat).uniform_(-a_bound, a_bound, generator);
  Tensor b = at::empty({out, r}, at::kFloat).uniform_(-b_bound, b_bound, generator);
  return {a, b};
}

const TuningMethod kVera = {"vera", "VERA", create, method_help<VeraConfig>, 5e-3};

}  // namespace graft
