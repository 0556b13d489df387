// Rotary positions as config.json describes them, in both of its layouts, and the tables that grow with what
// is read.
#pragma once
#include <string>

#include "graft/base/json.h"
#include "graft/ops/rope.h"

namespace graft {

using at::Tensor;

/// transformers 5: rope_parameters {rope_type, rope_theta, …}. Earlier: rope_theta and rope_scaling beside
/// each other.
struct RotaryConfig {
  std::string type = "default";  // default, linear, llama3
  double theta = 10000;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  double partial_factor = 1;  // share of a head's dimensions that rotate
  int64_t original_max_positions = 0;

  /// Errors: DataError naming a type or setting that is not implemented.
  static RotaryConfig read(const Json& config, double default_theta = 10000);
  /// [dim / 2] float32. Sources: Su et al. 2021; for llama3 the model card of Llama 3.1.
  Tensor inverse_frequencies(int64_t dim) const;
};

/// Rotates heads; its table covers the longest position read so far.
class Rotary {
 public:
  Rotary(const RotaryConfig& config, int64_t head_dim);
  /// x [T, H, D], positions [T] → [T, H, D].
  Tensor apply(const Tensor& x, const Tensor& positions) const;
  /// Grows the table for these positions; call once a pass, before the layers.
  void prepare(const Tensor& positions) const;

 private:
  Tensor inverse_frequencies_;
  mutable ops::RopeTable table_;
};

}  // namespace graft
