// EVA: A starts as the directions in which a map's inputs vary most, and the ranks go where there is most to
// explain. Source: Paischer et al. 2024; rules: PEFT's init_lora_weights "eva".
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// create_lora, after a look at the data where init_lora_weights is "eva": draws batches until the directions
/// stand still. Errors: UsageError (more directions than a map has inputs; batches with fewer rows than
/// directions).
Adapter create_lora_from_data(const Json& config, Model& model, uint64_t seed, const StudyBatches& batches);

}  // namespace graft
