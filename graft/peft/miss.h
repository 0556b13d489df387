// MiSS: a small block, repeated over the weight. Source: Kang and Yin 2024; files: PEFT's MISS.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kMiss;

}  // namespace graft
