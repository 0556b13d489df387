// From a bottleneck adapter's settings to its tensors and hooks.
#pragma once
#include "graft/peft/bottleneck_config.h"
#include "graft/peft/builder.h"
#include "graft/peft/sublayer_places.h"

namespace graft {

struct BottleneckPlan {
  BottleneckConfig config;
  BottleneckExtras extras;
  Json document;  // adapter_config.json
};

/// Width of a bottleneck as AdapterHub makes it of a reduction factor (> 0): floor division, 1 at least.
int64_t bottleneck_size(int64_t hidden, double factor);

/// Adds every adapter of the plan. Errors: UsageError (no place, a size that does not fit).
void add_bottlenecks(AdapterBuilder& builder, const BottleneckPlan& plan);

}  // namespace graft
