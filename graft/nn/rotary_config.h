// Rotary positions as config.json describes them, in both of its layouts, and the frequencies that they
// mean.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graft/base/json.h"

namespace graft {

using at::Tensor;

/// transformers 5: rope_parameters {rope_type, rope_theta, …}. Earlier: rope_theta and rope_scaling beside
/// each other.
struct RotaryConfig {
  std::string type = "default";  // default, linear, dynamic, yarn, longrope, llama3
  double theta = 10000;
  double factor = 1;  // how many times longer than trained
  double low_freq_factor = 1, high_freq_factor = 4;
  double beta_fast = 32, beta_slow = 1;  // yarn: turns within the trained length from which on a wave is
                                         // kept, and up to which it is stretched
  bool truncate = true;                  // yarn: the ramp between them begins and ends at whole dimensions
  std::vector<double> short_factor, long_factor;  // longrope: each wave's own stretch
  double attention_factor = 1;                    // cos and sin are multiplied by it
  double partial_factor = 1;                      // share of a head's dimensions that rotate
  int64_t max_positions = 0;                      // max_position_embeddings
  int64_t original_max_positions = 0;             // trained length where that is another one

  /// Errors: DataError naming a type or setting that is not implemented.
  static RotaryConfig read(const Json& config);
  /// Passes for which this is equal have equal frequencies; `reach`: one more than the longest position of a
  /// pass.
  int64_t frequency_length(int64_t reach) const;
  /// [dim / 2] float32 for a frequency_length. Errors: DataError where they do not fit `dim`. Sources: Su et
  /// al. 2021; the model card of Llama 3.1 (llama3); Peng et al. 2023 (yarn); Ding et al. 2024 (longrope);
  /// transformers 5 (dynamic: NTK-aware scaling, which has no paper).
  Tensor inverse_frequencies(int64_t dim, int64_t length) const;
  /// The longest sequence that this is made for: max_positions, or what dynamic and yarn stretch it to.
  int64_t longest() const;
  /// longrope: a pass that reaches further rotates by other frequencies; 0: none does.
  int64_t switch_length() const;
};

}  // namespace graft
