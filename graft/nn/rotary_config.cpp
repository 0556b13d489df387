#include "graft/nn/rotary_config.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <numbers>
#include <optional>
#include <utility>

#include "graft/base/error.h"
#include "graft/base/fields.h"

namespace graft {
namespace {

constexpr int64_t kMostPositions = 2147483647;

/// The keys of rope_parameters, and of rope_scaling (where `type` is rope_type's older name).
struct RopeFields {
  std::optional<std::string> rope_type, type;
  std::optional<double> rope_theta, factor, low_freq_factor, high_freq_factor, partial_rotary_factor;
  std::optional<double> attention_factor, beta_fast, beta_slow, mscale, mscale_all_dim;
  std::optional<std::vector<double>> short_factor, long_factor;
  std::optional<int64_t> original_max_position_embeddings;
  std::optional<bool> finetuned;
  bool truncate = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rope_type", self.rope_type, "default, linear, dynamic, yarn, longrope or llama3");
    visit("type", self.type, "the older name of rope_type");
    visit("rope_theta", self.rope_theta, "base of the frequencies");
    visit("factor", self.factor, "how many times longer than trained");
    visit("low_freq_factor", self.low_freq_factor, "llama3: wavelengths above original / this are scaled");
    visit("high_freq_factor", self.high_freq_factor, "llama3: wavelengths below original / this are kept");
    visit("partial_rotary_factor", self.partial_rotary_factor, "share of a head that rotates");
    visit("attention_factor", self.attention_factor, "yarn, longrope: cos and sin are multiplied by it");
    visit("beta_fast", self.beta_fast, "yarn: waves of more turns within the trained length are kept");
    visit("beta_slow", self.beta_slow, "yarn: waves of fewer turns are stretched");
    visit("mscale", self.mscale, "yarn: of attention_factor where that is missing");
    visit("mscale_all_dim", self.mscale_all_dim, "yarn: of attention_factor where that is missing");
    visit("truncate", self.truncate, "yarn: the ramp begins and ends at whole dimensions");
    visit("short_factor", self.short_factor, "longrope: each wave's stretch within the trained length");
    visit("long_factor", self.long_factor, "longrope: each wave's stretch beyond it");
    visit("original_max_position_embeddings", self.original_max_position_embeddings, "trained length");
    visit("finetuned", self.finetuned, "of the first published yarn checkpoints; changes nothing");
  }
};

template <class T>
void read_present(const Json& config, const char* key, T& out) {
  const auto found = config.find(key);
  if (found != config.end() && !found->is_null()) read_value(*found, out, key);
}

/// Old Phi-3 configurations call longrope "su" or "yarn".
std::string type_of(const RopeFields& fields) {
  const std::string type = fields.rope_type.value_or(fields.type.value_or("default"));
  return type == "su" || (type == "yarn" && fields.short_factor) ? "longrope" : type;
}

bool is_one_of(const std::string& type, std::initializer_list<const char*> types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

void take(RotaryConfig& out, const RopeFields& fields) {
  out.type = type_of(fields);
  out.theta = fields.rope_theta.value_or(out.theta);
  out.low_freq_factor = fields.low_freq_factor.value_or(out.low_freq_factor);
  out.high_freq_factor = fields.high_freq_factor.value_or(out.high_freq_factor);
  out.partial_factor = fields.partial_rotary_factor.value_or(out.partial_factor);
  // transformers takes 0 for "not given".
  if (fields.beta_fast.value_or(0) != 0) out.beta_fast = *fields.beta_fast;
  if (fields.beta_slow.value_or(0) != 0) out.beta_slow = *fields.beta_slow;
  out.truncate = fields.truncate;
  out.short_factor = fields.short_factor.value_or(out.short_factor);
  out.long_factor = fields.long_factor.value_or(out.long_factor);
}

void check_type(const RotaryConfig& rotary) {
  if (is_one_of(rotary.type, {"default", "linear", "dynamic", "yarn", "longrope", "llama3"})) return;
  throw DataError("config.json",
                  "rope_type {} is not implemented, expected default, linear, dynamic, yarn, longrope or "
                  "llama3",
                  rotary.type);
}

/// What every type has, and the lengths that its formulas divide by.
void check_common(const RotaryConfig& rotary) {
  if (!(rotary.theta > 0) || !std::isfinite(rotary.theta))
    throw DataError("config.json", "rope_theta {}, expected above 0", rotary.theta);
  if (!(rotary.partial_factor > 0 && rotary.partial_factor <= 1)) {
    throw DataError("config.json", "partial_rotary_factor {}, expected above 0, at most 1",
                    rotary.partial_factor);
  }
  const auto check_length = [&](const char* key, int64_t value, int64_t least) {
    if (value >= least && value <= kMostPositions) return;
    throw DataError("config.json", "rope_type {} with {} {}, expected the trained length, {} to {}",
                    rotary.type, key, value, least, kMostPositions);
  };
  // LongRoPE divides by its logarithm.
  if (rotary.type == "longrope")
    check_length("original_max_position_embeddings", rotary.original_max_positions, 2);
  if (is_one_of(rotary.type, {"yarn", "llama3"}))
    check_length("original_max_position_embeddings", rotary.original_max_positions, 1);
  if (rotary.type == "dynamic") check_length("max_position_embeddings", rotary.max_positions, 1);
}

void check_factor(const RotaryConfig& rotary, const RopeFields& fields) {
  // By the two lengths.
  const bool implied = rotary.type == "longrope" ||
                       (rotary.type == "yarn" && rotary.original_max_positions != rotary.max_positions);
  if (!fields.factor && rotary.type != "default" && !implied) {
    throw DataError("config.json", "rope_type {} without factor, expected how many times longer than trained",
                    rotary.type);
  }
  const bool longer = is_one_of(rotary.type, {"dynamic", "yarn", "longrope"});
  const double factor = fields.factor.value_or(1);
  if (std::isfinite(factor) && (longer ? factor >= 1 : factor > 0)) return;
  throw DataError("config.json", "rope_type {} with factor {}, expected {}", rotary.type, factor,
                  longer ? "at least 1" : "above 0");
}

void check_llama3(const RotaryConfig& rotary) {
  if (rotary.high_freq_factor > rotary.low_freq_factor) return;
  throw DataError("config.json",
                  "rope_type llama3 with low_freq_factor {}, high_freq_factor {}, expected low below high",
                  rotary.low_freq_factor, rotary.high_freq_factor);
}

void check_yarn(const RotaryConfig& rotary) {
  if (!(rotary.theta > 1))
    throw DataError("config.json", "rope_type yarn with rope_theta {}, expected above 1", rotary.theta);
  if (rotary.beta_slow > 0 && rotary.beta_fast >= rotary.beta_slow && std::isfinite(rotary.beta_fast)) return;
  throw DataError(
      "config.json",
      "rope_type yarn with beta_fast {}, beta_slow {}, expected slow above 0 and fast at least as "
      "much",
      rotary.beta_fast, rotary.beta_slow);
}

void check_stretches(const std::vector<double>& stretches, const char* key) {
  if (stretches.empty()) {
    throw DataError("config.json",
                    "rope_type longrope without {}, expected a number for two rotated dimensions of a head",
                    key);
  }
  for (size_t i = 0; i < stretches.size(); ++i) {
    if (stretches[i] > 0 && std::isfinite(stretches[i])) continue;
    throw DataError("config.json", "rope_type longrope with {}[{}] {}, expected above 0", key, i,
                    stretches[i]);
  }
}

/// √(1 / t) of Peng et al. 2023, eq. 22.
double yarn_scale(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

double attention_factor_of(const RotaryConfig& rotary, const RopeFields& fields) {
  if (!is_one_of(rotary.type, {"yarn", "longrope"})) return 1;
  if (fields.attention_factor) return *fields.attention_factor;
  if (rotary.type == "longrope") {
    if (rotary.factor <= 1) return 1;
    return std::sqrt(1 +
                     std::log(rotary.factor) / std::log(static_cast<double>(rotary.original_max_positions)));
  }
  const double mscale = fields.mscale.value_or(0), all_dim = fields.mscale_all_dim.value_or(0);
  if (mscale != 0 && all_dim != 0)
    return yarn_scale(rotary.factor, mscale) / yarn_scale(rotary.factor, all_dim);
  return yarn_scale(rotary.factor, 1);
}

/// What the lengths say where config.json does not.
void take_implied(RotaryConfig& out, const RopeFields& fields) {
  const double implied =
      static_cast<double>(out.max_positions) / static_cast<double>(out.original_max_positions);
  out.factor = fields.factor.value_or(is_one_of(out.type, {"yarn", "longrope"}) ? implied : 1);
  out.attention_factor = attention_factor_of(out, fields);
}

/// What only some types have.
void check_own(const RotaryConfig& rotary) {
  if (!(rotary.attention_factor > 0) || !std::isfinite(rotary.attention_factor)) {
    throw DataError("config.json", "rope_type {} with attention_factor {}, expected above 0", rotary.type,
                    rotary.attention_factor);
  }
  if (rotary.type == "llama3") check_llama3(rotary);
  if (rotary.type == "yarn") check_yarn(rotary);
  if (rotary.type == "longrope") {
    check_stretches(rotary.short_factor, "short_factor");
    check_stretches(rotary.long_factor, "long_factor");
  }
}

/// [dim / 2]: the frequencies' exponents, in float32 as transformers takes them.
Tensor exponents(int64_t dim) {
  return at::arange(0, dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(dim);
}

/// A longer pass has a larger base, so that its longest wave turns no further than trained.
Tensor dynamic_frequencies(const RotaryConfig& rotary, int64_t dim, int64_t length) {
  if (dim < 4) {
    throw DataError("config.json", "rope_type dynamic with {} rotated dimensions a head, expected at least 4",
                    dim);
  }
  const double power = static_cast<double>(dim) / static_cast<double>(dim - 2);
  if (length <= rotary.max_positions) return 1.0 / at::pow(rotary.theta, exponents(dim));
  // The length is a tensor in transformers, and so the base is a float32.
  const Tensor grown = at::scalar_tensor(length, at::kLong) * rotary.factor / rotary.max_positions;
  return 1.0 / at::pow((grown - (rotary.factor - 1)).pow(power) * rotary.theta, exponents(dim));
}

/// The pair of dimensions whose wave turns `turns` times within the trained length; a fraction.
double turning_pair(const RotaryConfig& rotary, int64_t dim, double turns) {
  const double radians = turns * 2 * std::numbers::pi;
  return static_cast<double>(dim) * std::log(static_cast<double>(rotary.original_max_positions) / radians) /
         (2 * std::log(rotary.theta));
}

Tensor yarn_frequencies(const RotaryConfig& rotary, int64_t dim) {
  double low = turning_pair(rotary, dim, rotary.beta_fast);
  double high = turning_pair(rotary, dim, rotary.beta_slow);
  if (rotary.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;  // a step; transformers' number
  const Tensor kept = 1 - ((at::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const Tensor waves = at::pow(rotary.theta, exponents(dim));
  return 1.0 / (waves * rotary.factor) * (1 - kept) + 1.0 / waves * kept;
}

Tensor longrope_frequencies(const RotaryConfig& rotary, int64_t dim, int64_t length) {
  for (const auto& [key, list] :
       {std::pair{"short_factor", &rotary.short_factor}, std::pair{"long_factor", &rotary.long_factor}}) {
    if (static_cast<int64_t>(list->size()) == dim / 2) continue;
    throw DataError("config.json", "{} has {} numbers, expected {}: one for two rotated dimensions of a head",
                    key, list->size(), dim / 2);
  }
  const bool beyond = length > rotary.original_max_positions;
  const Tensor stretches = at::tensor(beyond ? rotary.long_factor : rotary.short_factor, at::kFloat);
  return 1.0 / (stretches * at::pow(rotary.theta, exponents(dim)));
}

Tensor llama3_frequencies(const RotaryConfig& rotary, const Tensor& plain) {
  const auto original = static_cast<double>(rotary.original_max_positions);
  const double low = rotary.low_freq_factor, high = rotary.high_freq_factor;
  const Tensor wavelength = 2 * std::numbers::pi / plain;
  const Tensor smooth = (original / wavelength - low) / (high - low);
  const Tensor between = (1 - smooth) * plain / rotary.factor + smooth * plain;
  const Tensor scaled = at::where(wavelength > original / low, plain / rotary.factor, plain);
  const Tensor medium = at::logical_and(wavelength >= original / high, wavelength <= original / low);
  return at::where(medium, between, scaled);
}

}  // namespace

RotaryConfig RotaryConfig::read(const Json& config) {
  RotaryConfig out;
  RopeFields fields;
  std::optional<int64_t> original;
  try {
    read_present(config, "max_position_embeddings", out.max_positions);
    read_present(config, "original_max_position_embeddings", original);
    for (const char* key : {"rope_theta", "rotary_emb_base"}) read_present(config, key, out.theta);
    for (const char* key : {"partial_rotary_factor", "rotary_pct"})
      read_present(config, key, out.partial_factor);
    for (const char* key : {"rope_scaling", "rope_parameters"}) read_present(config, key, fields);
  } catch (const UsageError& error) {
    throw DataError("config.json", "{}", error.what());
  }
  take(out, fields);
  // As in transformers the key outside comes first.
  if (!original) original = fields.original_max_position_embeddings;
  out.original_max_positions = original.value_or(out.max_positions);
  check_type(out);
  check_common(out);
  check_factor(out, fields);
  take_implied(out, fields);
  check_own(out);
  return out;
}

int64_t RotaryConfig::frequency_length(int64_t reach) const {
  if (type == "dynamic") return std::max(reach, max_positions);
  if (type == "longrope") return reach > original_max_positions ? original_max_positions + 1 : 0;
  return 0;
}

Tensor RotaryConfig::inverse_frequencies(int64_t dim, int64_t length) const {
  if (type == "dynamic") return dynamic_frequencies(*this, dim, length);
  if (type == "yarn") return yarn_frequencies(*this, dim);
  if (type == "longrope") return longrope_frequencies(*this, dim, length);
  const Tensor plain = 1.0 / at::pow(theta, exponents(dim));
  if (type == "linear") return plain / factor;
  return type == "llama3" ? llama3_frequencies(*this, plain) : plain;
}

int64_t RotaryConfig::longest() const {
  if (type != "dynamic" && type != "yarn") return max_positions;
  const int64_t trained = type == "yarn" ? original_max_positions : max_positions;
  const double stretched =
      std::min(static_cast<double>(trained) * factor, static_cast<double>(kMostPositions));
  return std::max(max_positions, static_cast<int64_t>(stretched));
}

int64_t RotaryConfig::switch_length() const { return type == "longrope" ? original_max_positions : 0; }

}  // namespace graft
