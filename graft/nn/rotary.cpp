#include "graft/nn/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "graft/base/error.h"
#include "graft/base/fields.h"

namespace graft {
namespace {

/// The keys of rope_parameters, and of rope_scaling (where `type` is rope_type's older name).
struct RopeFields {
  std::optional<std::string> rope_type, type;
  std::optional<double> rope_theta, factor, low_freq_factor, high_freq_factor, partial_rotary_factor;
  std::optional<int64_t> original_max_position_embeddings;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rope_type", self.rope_type, "default, linear or llama3");
    visit("type", self.type, "the older name of rope_type");
    visit("rope_theta", self.rope_theta, "base of the frequencies");
    visit("factor", self.factor, "how many times longer than trained");
    visit("low_freq_factor", self.low_freq_factor, "llama3: wavelengths above original / this are scaled");
    visit("high_freq_factor", self.high_freq_factor, "llama3: wavelengths below original / this are kept");
    visit("partial_rotary_factor", self.partial_rotary_factor, "share of a head that rotates");
    visit("original_max_position_embeddings", self.original_max_position_embeddings,
          "llama3: trained length");
  }
};

const Json* present(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

void take(RotaryConfig& out, const RopeFields& fields) {
  out.type = fields.rope_type.value_or(fields.type.value_or(out.type));
  out.theta = fields.rope_theta.value_or(out.theta);
  out.factor = fields.factor.value_or(out.factor);
  out.low_freq_factor = fields.low_freq_factor.value_or(out.low_freq_factor);
  out.high_freq_factor = fields.high_freq_factor.value_or(out.high_freq_factor);
  out.partial_factor = fields.partial_rotary_factor.value_or(out.partial_factor);
  out.original_max_positions = fields.original_max_position_embeddings.value_or(out.original_max_positions);
}

void check(const RotaryConfig& rotary) {
  if (rotary.type != "default" && rotary.type != "linear" && rotary.type != "llama3") {
    throw DataError("config.json", "rope_type {} is not implemented, expected default, linear or llama3",
                    rotary.type);
  }
  if (!(rotary.theta > 0) || !(rotary.factor > 0) || !std::isfinite(rotary.theta) ||
      !std::isfinite(rotary.factor)) {
    throw DataError("config.json", "rope_theta {} and factor {}, expected above 0", rotary.theta,
                    rotary.factor);
  }
  if (!(rotary.partial_factor > 0 && rotary.partial_factor <= 1)) {
    throw DataError("config.json", "partial_rotary_factor {}, expected above 0, at most 1",
                    rotary.partial_factor);
  }
  if (rotary.type == "llama3" &&
      (rotary.original_max_positions < 1 || !(rotary.high_freq_factor > rotary.low_freq_factor))) {
    throw DataError(
        "config.json",
        "rope_type llama3 with original_max_position_embeddings {}, low_freq_factor {}, high_freq_factor "
        "{}, expected a trained length and low below high",
        rotary.original_max_positions, rotary.low_freq_factor, rotary.high_freq_factor);
  }
}

}  // namespace

RotaryConfig RotaryConfig::read(const Json& config, double default_theta) {
  RotaryConfig out;
  out.theta = default_theta;
  try {
    if (const Json* value = present(config, "max_position_embeddings")) {
      read_value(*value, out.original_max_positions, "max_position_embeddings");
    }
    for (const char* key : {"rope_theta", "rotary_emb_base"}) {
      if (const Json* value = present(config, key)) read_value(*value, out.theta, key);
    }
    for (const char* key : {"partial_rotary_factor", "rotary_pct"}) {
      if (const Json* value = present(config, key)) read_value(*value, out.partial_factor, key);
    }
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      if (const Json* value = present(config, key)) take(out, read_fields<RopeFields>(*value, key));
    }
  } catch (const UsageError& error) {
    throw DataError("config.json", "{}", error.what());
  }
  check(out);
  return out;
}

Tensor RotaryConfig::inverse_frequencies(int64_t dim) const {
  // The powers in float32 as transformers takes them.
  Tensor inverse =
      1.0 / at::pow(theta, at::arange(0, dim, 2, at::kLong).to(at::kFloat) / static_cast<double>(dim));
  if (type == "linear") return inverse / factor;
  if (type != "llama3") return inverse;
  const auto original = static_cast<double>(original_max_positions);
  const Tensor wavelength = 2 * std::numbers::pi / inverse;
  const Tensor smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
  const Tensor between = (1 - smooth) * inverse / factor + smooth * inverse;
  const Tensor scaled = at::where(wavelength > original / low_freq_factor, inverse / factor, inverse);
  const Tensor medium =
      at::logical_and(wavelength >= original / high_freq_factor, wavelength <= original / low_freq_factor);
  return at::where(medium, between, scaled);
}

Rotary::Rotary(const RotaryConfig& config, int64_t head_dim) {
  const auto rotated = static_cast<int64_t>(static_cast<double>(head_dim) * config.partial_factor);
  if (rotated < 2 || rotated % 2 != 0) {
    throw DataError("config.json", "{} rotated dimensions a head, expected an even number", rotated);
  }
  inverse_frequencies_ = config.inverse_frequencies(rotated);
}

void Rotary::prepare(const Tensor& positions) const {
  const int64_t need = positions.numel() == 0 ? 1 : positions.max().item<int64_t>() + 1;
  if (table_.cos.defined() && table_.cos.size(0) >= need) return;
  const auto rows = std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(need, 256)));
  table_ = ops::rope_table(inverse_frequencies_, static_cast<int64_t>(rows));
}

Tensor Rotary::apply(const Tensor& x, const Tensor& positions) const {
  return ops::rope(x, positions, table_);
}

}  // namespace graft
