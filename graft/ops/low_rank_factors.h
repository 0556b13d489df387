// The small products of low-rank updates, and the factors in the layouts that these want.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace graft::ops {

using at::Tensor;

/// The factors A [r, in] and B [out, r] in their products' layouts. Empty until packed; packed anew when they
/// are others, or were written to.
struct PackedLowRank {
  Tensor down;                  // for rows · Aᵀ
  Tensor up;                    // Bᵀ [r, out] in whole lanes
  Tensor up_side;               // for rows · scale B
  Tensor up_units, down_units;  // panels of scale B and of Aᵀ, of r columns in whole lanes
  Tensor few_down;              // for few rows · Aᵀ: panels of A in whole lanes
  Tensor a, b;                  // what they were made from
  uint32_t a_version = 0, b_version = 0;
  double scale = 0;
  at::ScalarType type = at::kFloat;  // of the rows
  /// Forgets what was made from others.
  void renew(const Tensor& a_now, const Tensor& b_now, double scale_now, at::ScalarType type_now);
  /// `down` and `up` of these.
  void pack(const Tensor& a_now, const Tensor& b_now, double scale_now, at::ScalarType type_now);
};

/// r rounded up to whole lanes.
inline int64_t lanes(int64_t r) { return (r + 15) / 16 * 16; }

/// The right side of a product with rows of `type` [T, n]: aᵀ of a [r, n] (`across`), or b [n, r].
Tensor packed_side(const Tensor& side, bool across, at::ScalarType type);
/// right [r, n] with rows padded to whole lanes.
Tensor padded_lanes(const Tensor& right);

/// x [T, n] by a packed side of r columns.
struct LowRankRows {
  Tensor x, side;
  int64_t r;
};
/// All of them, of equally many rows and one type → [T, lanes(r)] float32 each.
std::vector<Tensor> low_rank_rows(const std::vector<LowRankRows>& wanted);

/// uᵀ x over all rows: u [T, lanes(r)] float32, x [T, n].
struct LowRankSum {
  Tensor u, x;
  int64_t r;
};
/// All of them, of one type → [r, n] float32 each.
std::vector<Tensor> low_rank_sums(const std::vector<LowRankSum>& wanted);

}  // namespace graft::ops
