#include "graft/peft/fourierft.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "graft/peft/adapt_linears.h"
#include "graft/peft/delta_linear.h"

namespace graft {
namespace {

struct FourierFtConfig : TargetedConfig {
  int64_t n_frequency = 1000, random_loc_seed = 777;
  double scaling = 150;
  bool fan_in_fan_out = false, init_weights = false;
  std::string bias = "none";
  Json n_frequency_pattern = Json::object();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    TargetedConfig::fields(self, visit);
    visit("n_frequency", self.n_frequency, "trained entries of the spectrum", at_least<int64_t>(1));
    visit("random_loc_seed", self.random_loc_seed, "seed of their places, which the file does not hold",
          at_least<int64_t>(0));
    visit("scaling", self.scaling, "the update counts so much");
    visit("fan_in_fan_out", self.fan_in_fan_out,
          "the file holds the base's weight as [in, out]; set by the model");
    visit("init_weights", self.init_weights,
          "true: the update starts at zero; false, as in the paper: at random");
    visit("bias", self.bias, "which biases of the base are trained too",
          one_of({"none", "all", "fourier_only"}));
    visit("n_frequency_pattern", self.n_frequency_pattern, "n_frequency by pattern of the path");
  }
};

/// ΔW = scaling · Re(ifft2(F)), F zero except the trained entries.
class FourierFtLinear : public DeltaLinear {
 public:
  FourierFtLinear(Tensor spectrum, Tensor places, double scaling)
      : spectrum_(std::move(spectrum)), places_(std::move(places)), scaling_(scaling) {}

 protected:
  Tensor delta(const Linear& base, RandomStream*) const override {
    const Tensor dense =
        at::zeros({base.out() * base.in()}, spectrum_.options()).index_copy(0, places_, spectrum_);
    return scaling_ * at::real(at::fft_ifft2(dense.view({base.out(), base.in()})));
  }

 private:
  Tensor spectrum_, places_;  // [n]; row · in + column
  double scaling_;
};

void adapt(AdapterBuilder& builder, const FourierFtConfig& config, const std::string& path,
           const Linear& linear) {
  const auto n = static_cast<int64_t>(pattern_value_below(
      path, config.n_frequency_pattern, static_cast<double>(config.n_frequency), "n_frequency_pattern"));
  const int64_t room = linear.in() * linear.out();
  if (n < 1 || n > room) throw UsageError("n_frequency", "{} for {}, expected 1 to {}", n, path, room);
  const std::string key = file_key(path + ".fourierft_spectrum");
  const Tensor spectrum =
      builder.train(key, config.init_weights ? builder.zeros({n}) : builder.normal(key, {n}, 1));
  const Tensor places = first_of_permutation(room, n, config.random_loc_seed);
  builder.hook(
      path, std::shared_ptr<LinearHook>(std::make_shared<FourierFtLinear>(spectrum, places, config.scaling)));
}

Adapter create(const Json& given, Model& model, uint64_t seed) {
  return adapt_linears<FourierFtConfig>({kFourierFt, TargetColumn::fourierft, true}, ConfigSource(given),
                                        model, seed, adapt);
}

}  // namespace

Tensor first_of_permutation(int64_t count, int64_t n, int64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
  return at::randperm(count, generator, at::TensorOptions(at::kLong)).slice(0, 0, n).clone();
}

const TuningMethod kFourierFt = {"fourierft", "FOURIERFT", create, method_help<FourierFtConfig>};

}  // namespace graft
