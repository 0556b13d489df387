// Frozen linear maps that read the same rows, each with a low-rank update where one is wanted.
#pragma once
#include <optional>
#include <vector>

#include "graft/ops/frozen_linear.h"
#include "graft/ops/int8_linear.h"
#include "graft/ops/low_rank.h"

namespace graft::ops {

/// y += scale · (in Aᵀ) Bᵀ.
struct LowRankUpdate {
  Tensor in = {};         // [T, in]: what it reads; undefined: the map's own rows
  Tensor a = {}, b = {};  // [r, in], [out, r] float32
  double scale = 1;
  PackedLowRank* packed = nullptr;
};

struct AdaptedLinear {
  Tensor weight = {};  // [out, in] without gradient
  Tensor bias = {};    // [out] without gradient, or undefined
  PackedWeight* packed = nullptr;
  PackedInt8* int8 = nullptr;  // where there is one: multiplied in 8 bits, by int8_linears
  std::optional<LowRankUpdate> update = {};
};

/// x [T, in] → [T, out] of each map in x's type. One pass over the rows; an output with its update, and the
/// rows' gradient over all maps, is one sum in float32, rounded once (x Aᵀ is rounded to x's type before).
/// Saves x and each x Aᵀ. Source form: frozen_linear and low_rank_add, one map after the other, which is
/// what maps in 8 bits do; their rows are rounded once.
std::vector<Tensor> adapted_linears(const Tensor& x, const std::vector<AdaptedLinear>& maps);

/// The specification, in ATen operations.
std::vector<Tensor> adapted_linears_plain(const Tensor& x, const std::vector<AdaptedLinear>& maps);

}  // namespace graft::ops
