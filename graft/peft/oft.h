// OFT: a block-diagonal rotation of a map's input. Source: Qiu et al. 2023; files: PEFT's OFT.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kOft;

}  // namespace graft
