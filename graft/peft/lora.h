// LoRA: a low-rank update beside a frozen map. Source: Hu et al. 2021; files: PEFT's LORA.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLora;

/// The adapter that a LORA config describes, as `method`'s. Errors: UsageError.
Adapter create_lora(const TuningMethod& method, const Json& config, Model& model, uint64_t seed);

/// The key layer_replication as LoadOptions take it. Errors: UsageError.
std::vector<std::pair<int64_t, int64_t>> layer_ranges(const Json& layer_replication);

}  // namespace graft
