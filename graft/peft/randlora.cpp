#include "graft/peft/randlora.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct RandloraConfig : CommonConfig, TargetKeys, LayerKeys {
  int64_t r = 32, projection_prng_key = 0;
  double randlora_alpha = 640, randlora_dropout = 0;
  bool save_projection = true, sparse = false, very_sparse = false, fan_in_fan_out = false,
       init_weights = true;
  std::string bias = "none";

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CommonConfig::fields(self, visit);
    TargetKeys::fields(self, visit);
    LayerKeys::fields(self, visit);
    visit("r", self.r, "rank of each of the random maps; the smaller, the more of them",
          at_least<int64_t>(1));
    visit("randlora_alpha", self.randlora_alpha, "the update counts randlora_alpha / r");
    visit("projection_prng_key", self.projection_prng_key, "seed of the random maps", at_least<int64_t>(0));
    visit("save_projection", self.save_projection, "the random maps are in the file too");
    visit("sparse", self.sparse, "random maps of -1, 0 and 1, a third of them not zero");
    visit("very_sparse", self.very_sparse, "likewise, one in the narrowest side's root not zero");
    visit("randlora_dropout", self.randlora_dropout, "dropout of the update's input", between(0.0, 1.0));
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights, "the update starts at zero, not at random");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "randlora_only"}));
  }
};

int64_t bases_of(int64_t narrow, int64_t r) { return (narrow + r - 1) / r; }

/// The narrow side's map, scaled, and the wide side's: [r n, narrow] and [wide, n r] of the first n bases.
/// PEFT lays out the two sums' indices the other way round in each; so do its files' numbers.
class RandloraLinear : public FactoredLinear {
 public:
  RandloraLinear(RandomBases bases, Tensor lambda, Tensor gamma, double scale, double dropout)
      : FactoredLinear(scale, dropout),
        bases_(std::move(bases)),
        lambda_(std::move(lambda)),
        gamma_(std::move(gamma)) {}

 protected:
  Factors factors(const Linear& base) const override {
    const int64_t narrow = std::min(base.in(), base.out()), wide = std::max(base.in(), base.out());
    const Tensor scaled = lambda_.unsqueeze(2) * bases_.a.slice(2, 0, narrow) * gamma_.unsqueeze(0);
    const Tensor small = scaled.flatten(0, 1);
    const Tensor large = bases_.b.slice(0, 0, wide).slice(1, 0, gamma_.size(0)).flatten(1);
    if (narrow == base.in()) return {small, large};
    return {large.t(), small.t()};
  }

 private:
  RandomBases bases_;
  Tensor lambda_, gamma_;  // [r, n], [n, narrow]
};

/// Over all maps: the widest input and the widest output, the smaller and the larger of them.
std::pair<int64_t, int64_t> sides_of(const Targets& targets) {
  int64_t in = 0, out = 0;
  for (const auto& [path, linear] : targets.linears) {
    in = std::max(in, linear->in());
    out = std::max(out, linear->out());
  }
  return {std::min(in, out), std::max(in, out)};
}

/// PEFT's files have them once for the model, and once more at each map.
void keep(AdapterBuilder& builder, const std::string& where, const RandomBases& bases) {
  builder.keep(where + ".randlora_A", bases.a);
  builder.keep(where + ".randlora_B", bases.b);
}

RandomBases shared_bases(AdapterBuilder& builder, const RandloraConfig& config, const Targets& targets) {
  const auto [narrow, wide] = sides_of(targets);
  constexpr double kSparse = 3;
  const double sparsity = config.very_sparse ? std::sqrt(static_cast<double>(narrow))
                          : config.sparse    ? kSparse
                                             : 0;
  RandomBases bases = randlora_bases(config.projection_prng_key, config.r, narrow, wide, sparsity);
  const auto type = builder.zeros({1}).scalar_type();
  bases = {bases.a.to(type), bases.b.to(type)};
  if (config.save_projection) keep(builder, "base_model", bases);
  return bases;
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  std::optional<RandomBases> bases;
  const auto adapt = [&](AdapterBuilder& builder, const RandloraConfig& config, const std::string& path,
                         const Linear& linear) {
    const int64_t narrow = std::min(linear.in(), linear.out()), n = bases_of(narrow, config.r);
    const std::string lambda_key = file_key(path + ".randlora_lambda"),
                      gamma_key = file_key(path + ".randlora_gamma");
    const std::vector<int64_t> lambda{config.r, n};
    const int64_t longest = config.init_weights ? std::max(n, narrow) : std::max(linear.in(), linear.out());
    const Tensor l = builder.train(
        lambda_key, config.init_weights ? builder.zeros(lambda) : builder.normal(lambda_key, lambda, 1));
    const Tensor g = builder.train(gamma_key, builder.ones({n, narrow}) / longest);
    if (config.save_projection) keep(builder, file_key(path), *bases);
    builder.hook(path, std::shared_ptr<LinearHook>(std::make_shared<RandloraLinear>(
                           *bases, l, g, config.randlora_alpha / static_cast<double>(config.r),
                           config.randlora_dropout)));
  };
  const auto prepare = [&](AdapterBuilder& builder, const RandloraConfig& config, const Targets& targets) {
    bases = shared_bases(builder, config, targets);
  };
  return adapt_linears<RandloraConfig>({kRandlora, TargetColumn::lora, true}, ConfigSource(given), model,
                                       seed, adapt, prepare);
}

/// -1, 0 and 1 out of uniform numbers.
Tensor thinned(const Tensor& uniform, double sparsity) {
  const double edge = 1 / (2 * sparsity);
  return uniform.gt(1 - edge).to(at::kFloat) - uniform.lt(edge).to(at::kFloat);
}

}  // namespace

RandomBases randlora_bases(int64_t seed, int64_t r, int64_t narrow, int64_t wide, double sparsity) {
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
  const int64_t n = bases_of(narrow, r);
  RandomBases out;
  if (sparsity > 0) {
    out.a = thinned(at::rand({r, 1, narrow}, generator), sparsity);
    out.b = thinned(at::rand({wide, n, r}, generator), sparsity);
  } else {
    const auto uniform = [&](const std::vector<int64_t>& shape, int64_t fan_in) {
      const double bound = kaiming_bound(fan_in);
      return at::empty(shape, at::kFloat).uniform_(-bound, bound, generator);
    };
    out.a = uniform({r, 1, narrow}, narrow);
    std::vector<Tensor> parts;
    for (int64_t i = 0; i < n; ++i) parts.push_back(uniform({wide, 1, r}, r));
    out.b = at::cat(parts, 1);
  }
  return {out.a / out.a.std(), out.b / out.b.std()};
}

const TuningMethod kRandlora = {"randlora", "RANDLORA", create, method_help<RandloraConfig>, 1e-4};

}  // namespace graft
