// Generation as `graft bench` measures it: how fast a shape with random weights writes and reads.
#pragma once
#include <string>

#include "graft/session/bench_work.h"

namespace graft {

/// Tokens of the prompt whose reading is measured.
constexpr int64_t kPromptTokens = 512;

/// Whether a work's model writes text.
bool generates(const BenchWork& work);

/// Rates in tokens a second, of the median pass.
struct GenerateMeasurement {
  double one = 0, eight = 0;     // sequences at once; eight's of all together
  double prompt = 0;             // one prompt of kPromptTokens
  double unmerged = 0;           // one sequence, LoRA attached to all linear maps
  double unmerged_share = 0;     // of one's rate, measured by turns
  double weight_bytes = 0;       // that a token of one sequence reads
  double prompt_operations = 0;  // a token
};
/// `dtype` as in a recipe's model.dtype; 8 · `steps` tokens are written in each part.
GenerateMeasurement measure_generation(const BenchWork& work, const std::string& dtype, int64_t steps);

}  // namespace graft
