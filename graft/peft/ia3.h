// (IA)³: trained scales of outputs, and of the feed-forward part's inputs. Source: Liu et al. 2022; files:
// PEFT's IA3.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kIa3;

}  // namespace graft
