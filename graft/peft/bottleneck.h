// Bottleneck adapters: small networks behind (or beside) the sublayers. Sources: Houlsby et al. 2019,
// Pfeiffer et al. 2021, He et al. 2022 (parallel), Mahabadi et al. 2021 (Compacter), Rücklé et al. 2021
// (AdapterDrop); keys and files: AdapterHub's adapters 1.3.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

/// Every key as given; the others are this with values of their own.
extern const TuningMethod kBottleneck;
/// Behind attention and feed-forward part (Adpt-H; AdapterHub's double_seq_bn).
extern const TuningMethod kHoulsby;
/// Behind the feed-forward part and its norm (Adpt-P; seq_bn).
extern const TuningMethod kPfeiffer;
/// Pfeiffer's, with none in the lowest layers (Adpt-D).
extern const TuningMethod kAdapterDrop;
/// Beside the feed-forward part (par_bn).
extern const TuningMethod kParallel;
/// Houlsby's places (compacter), Pfeiffer's places (compacter++): maps are sums of Kronecker products.
extern const TuningMethod kCompacter, kCompacterPlusPlus;

/// AdapterDrop at inference: takes the adapters of the `layers` lowest layers (of encoder and decoder) away,
/// before attaching. Errors: UsageError where the adapter has no bottlenecks.
void drop_adapters(Adapter& adapter, Model& model, int64_t layers);

}  // namespace graft
