#include "graft/ops/low_rank_merge.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "graft/base/error.h"
#include "graft/ops/low_rank_factors.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

/// Values that are made at once: in float32 they stay in the second cache.
constexpr int64_t kPartValues = int64_t{1} << 17;

void check(const Tensor& weight, const Tensor& a, const Tensor& b, const Tensor& probes) {
  if (weight.dim() != 2 || a.size(1) != weight.size(1) || b.size(0) != weight.size(0) ||
      a.size(0) != b.size(1) || probes.size(0) != kMergeProbes || probes.size(1) != weight.size(1)) {
    throw InternalError("low_rank_merge",
                        "weight {}, a {}, b {}, probes {}, expected [out, in], [r, in], [out, r], [2, in]",
                        fmt::join(weight.sizes(), "×"), fmt::join(a.sizes(), "×"), fmt::join(b.sizes(), "×"),
                        fmt::join(probes.sizes(), "×"));
  }
}

at::ScalarType wide_type(const Tensor& weight, const Tensor& a) {
  return compute_type(weight) == at::kDouble ? at::kDouble : compute_type(a);
}

bool has_fast_form(const Tensor& weight, const Tensor& a, const Tensor& b, at::ScalarType type) {
  return has_kernels(weight) && weight.scalar_type() == type && a.scalar_type() == at::kFloat &&
         b.scalar_type() == at::kFloat;
}

/// What is made: the weight [out, in], and its changes' outputs for the probes [out, 2].
struct Merged {
  Tensor weight, seen;
  Merged rows(int64_t first, int64_t count) const {
    return {weight.narrow(0, first, count), seen.narrow(0, first, count)};
  }
};

/// The factors, and the probes; for the kernels with rows in whole lanes.
struct Factors {
  Tensor a, b, probes;
  double scale;
};

/// Rows in whole lanes, float32.
Tensor whole_lanes(const Tensor& x) {
  const bool whole = x.scalar_type() == at::kFloat && x.is_contiguous() && lanes(x.size(1)) == x.size(1);
  return whole ? x : padded_lanes(x);
}

void merge_rows(const Tensor& weight, const Factors& factors, const Merged& merged) {
  const Tensor rows = weight.contiguous();
  by_type(rows, [&]<class T>(T) {
    kernels<T>().low_rank_merge({.rows = rows.size(0),
                                 .n = rows.size(1),
                                 .r = factors.a.size(0),
                                 .scale = static_cast<float>(factors.scale),
                                 .weight = data<T>(rows),
                                 .u = data<float>(factors.b),
                                 .u_stride = factors.b.size(1),
                                 .right = data<float>(factors.a),
                                 .right_stride = factors.a.size(1),
                                 .probes = data<float>(factors.probes),
                                 .result = writable<T>(merged.weight),
                                 .seen = writable<float>(merged.seen)});
  });
}

void merge_rows_plain(const Tensor& weight, const Factors& factors, const Merged& merged) {
  const Tensor before = weight.to(merged.seen.scalar_type());
  const Tensor after = at::addmm(before, factors.b, factors.a, 1, factors.scale);
  merged.weight.copy_(after);
  merged.seen.copy_(at::matmul(after - before, factors.probes.t()));
}

MergedWeight result(const Merged& merged, const LowRankChange& change, const Tensor& probes) {
  if (merged.seen.numel() == 0) return {merged.weight, 0};
  const auto wide = merged.seen.scalar_type();
  const Tensor expected = at::matmul(change.b.to(wide), at::matmul(change.a.to(wide), probes.to(wide).t()));
  return {merged.weight, (merged.seen - change.scale * expected).abs().max().item<double>()};
}

Merged room(const Tensor& weight, const Tensor& a, at::ScalarType type) {
  return {at::empty(weight.sizes(), weight.options().dtype(type)),
          at::empty({weight.size(0), kMergeProbes}, weight.options().dtype(wide_type(weight, a)))};
}

Factors widened(const LowRankChange& change, const Tensor& probes, at::ScalarType wide) {
  return {change.a.to(wide), change.b.to(wide), probes.to(wide), change.scale};
}

}  // namespace

MergedWeight low_rank_merge(const Tensor& weight, const LowRankChange& change, const Tensor& probes,
                            at::ScalarType type) {
  const auto& [a, b, scale] = change;
  check(weight, a, b, probes);
  const at::NoGradGuard no_grad;
  const bool fast = has_fast_form(weight, a, b, type);
  const Merged merged = room(weight, a, type);
  const Factors factors = fast ? Factors{whole_lanes(a), b.contiguous(), whole_lanes(probes), scale}
                               : widened(change, probes, merged.seen.scalar_type());
  const int64_t rows = std::max<int64_t>(1, kPartValues / std::max<int64_t>(1, weight.size(1)));
  at::parallel_for(0, weight.size(0), rows, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard none;
    for (int64_t first = begin; first < end; first += rows) {
      const int64_t count = std::min(rows, end - first);
      const Factors part{factors.a, factors.b.narrow(0, first, count), factors.probes, factors.scale};
      (fast ? merge_rows : merge_rows_plain)(weight.narrow(0, first, count), part, merged.rows(first, count));
    }
  });
  return result(merged, change, probes);
}

MergedWeight low_rank_merge_plain(const Tensor& weight, const LowRankChange& change, const Tensor& probes,
                                  at::ScalarType type) {
  const auto& [a, b, scale] = change;
  check(weight, a, b, probes);
  const at::NoGradGuard no_grad;
  const Merged merged = room(weight, a, type);
  merge_rows_plain(weight, widened(change, probes, merged.seen.scalar_type()), merged);
  return result(merged, change, probes);
}

}  // namespace graft::ops
