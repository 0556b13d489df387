// LoKr: a Kronecker product, its larger factor of low rank. Source: Yeh et al. 2024; files: PEFT's LOKR.
#pragma once
#include "graft/peft/adapter.h"

namespace graft {

extern const TuningMethod kLokr;

/// The two factors (small, large) of a side: `factor` where it divides, else the most even pair whose first
/// is at most `factor`
/// (-1: any).
std::pair<int64_t, int64_t> lokr_factors(int64_t size, int64_t factor);

}  // namespace graft
