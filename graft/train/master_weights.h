// Training a bfloat16 model's own matrices in bfloat16.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// Turns what stands in for the model's matrices into bfloat16, in place; vectors (biases, norms) and an
/// adapter's own tensors stay float32. The optimizer then rounds them by chance. Errors: UsageError where the
/// model is not bfloat16, or where its stand-ins are computed.
void drop_master_weights(const Adapter& adapter, const Model& model);

}  // namespace graft
