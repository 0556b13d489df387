// First values of A and B, and the part of the base that they start as (PiSSA, OLoRA): there PEFT subtracts
// B₀ A₀ from the base; here the base stays, and the hook takes B₀ A₀ away.
#pragma once
#include "graft/peft/builder.h"
#include "graft/peft/lora_config.h"
#include "graft/peft/lora_layer.h"

namespace graft {

/// True where A and B start as a part of the base's own weight.
bool starts_from_weight(const Json& init_lora_weights);

/// The r strongest directions of `matrix` [m, n] from a random start and `iterations` of subspace iteration:
/// U [m, r], S [r], Vᵀ [r, n]. The start is the same for each `name`. Source: Halko et al. 2011.
struct LowRankSvd {
  Tensor u, s, vt;
};
LowRankSvd low_rank_svd(const Tensor& matrix, int64_t r, int64_t iterations, const std::string& name);

/// Fills a, b (leaves of the builder) and, where they start from the weight, a0 and b0 of one linear map;
/// `lora` has its scale.
struct LoraSpot {
  const std::string& path;
  const Linear& linear;
  int64_t r;
};
void start_lora(AdapterBuilder& builder, const LoraConfig& config, const LoraSpot& spot, LoraTensors& lora);

/// An adapter's file with the initial values taken away by more rank (2r), so that it needs no change of the
/// base: PEFT's path_initial_model_for_weight_conversion. `maps`: by path.
void convert_to_plain(const std::map<std::string, LoraTensors>& maps, TensorMap& tensors, Json& config);

}  // namespace graft
