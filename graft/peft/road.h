// RoAd: pairs of a map's outputs turned and scaled. Source: Liao and Monz 2024; files: PEFT's ROAD.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kRoad;

}  // namespace graft
