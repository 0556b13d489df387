#include "graft/ops/low_rank_factors.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "graft/ops/types.h"

namespace graft::ops {
namespace {

/// Columns of a piece of uᵀ x.
constexpr int64_t kColumns = 48;
int64_t pieces_of(const LowRankSum& one) { return (one.x.size(1) + kColumns - 1) / kColumns; }

/// Which of the wanted read the same rows: theirs are put in pairs once.
std::vector<std::vector<size_t>> by_rows(const std::vector<LowRankSum>& wanted) {
  std::vector<std::vector<size_t>> out;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto same = std::find_if(out.begin(), out.end(), [&](const std::vector<size_t>& group) {
      return wanted[group[0]].x.is_same(wanted[i].x);
    });
    if (same == out.end()) {
      out.push_back({i});
    } else {
      same->push_back(i);
    }
  }
  return out;
}

/// Their u side by side.
LowRankSum joined(const std::vector<LowRankSum>& wanted, const std::vector<size_t>& group) {
  if (group.size() == 1) return wanted[group[0]];
  std::vector<Tensor> sides;
  for (const size_t i : group) sides.push_back(wanted[i].u.narrow(1, 0, wanted[i].r));
  const Tensor u = at::cat(sides, 1);
  return {padded_lanes(u), wanted[group[0]].x, u.size(1)};
}

}  // namespace

void PackedLowRank::renew(const Tensor& a_now, const Tensor& b_now, double scale_now,
                          at::ScalarType type_now) {
  const bool same = a.defined() && a.is_same(a_now) && a_version == version_of(a_now) && b.is_same(b_now) &&
                    b_version == version_of(b_now) && scale == scale_now && type == type_now;
  if (same) return;
  *this = {};
  a = a_now, b = b_now, a_version = version_of(a_now), b_version = version_of(b_now);
  scale = scale_now, type = type_now;
}

void PackedLowRank::pack(const Tensor& a_now, const Tensor& b_now, double scale_now,
                         at::ScalarType type_now) {
  renew(a_now, b_now, scale_now, type_now);
  if (!down.defined()) down = packed_side(a, true, type);
  if (!up.defined()) up = padded_lanes(b.t());
}

Tensor packed_side(const Tensor& side, bool across, at::ScalarType type) {
  const int64_t r = side.size(across ? 0 : 1), n = side.size(across ? 1 : 0);
  const Tensor narrow = side.to(type).contiguous();
  Tensor packed;
  by_type(narrow, [&]<class T>(T) {
    constexpr int64_t depth = 4 / static_cast<int64_t>(sizeof(T));
    packed = empty({(n + depth - 1) / depth * lanes(r)}, at::kInt);
    (across ? kernels<T>().pack_down : kernels<T>().pack_up)(data<T>(narrow), r, n,
                                                             writable<int32_t>(packed));
  });
  return packed;
}

Tensor padded_lanes(const Tensor& right) {
  const Tensor out = at::zeros({right.size(0), lanes(right.size(1))}, at::kFloat);
  out.narrow(1, 0, right.size(1)).copy_(right);
  return out;
}

std::vector<Tensor> low_rank_rows(const std::vector<LowRankRows>& wanted) {
  constexpr int64_t kTogether = 64;  // rows that stay near while each side passes over them
  std::vector<Tensor> out;
  int64_t rows = 0, length = 0;
  for (const LowRankRows& one : wanted) {
    rows = one.x.size(0), length += one.x.size(1);
    out.push_back(empty({rows, lanes(one.r)}, at::kFloat));
  }
  if (rows == 0) return out;
  by_type(wanted[0].x, [&]<class T>(T) {
    const auto run = [&](int64_t first, int64_t count) {
      for (size_t i = 0; i < wanted.size(); ++i) {
        const auto& [x, side, r] = wanted[i];
        kernels<T>().low_rank_down(data<T>(x) + first * x.size(1), count, x.size(1), data<int32_t>(side), r,
                                   writable<float>(out[i]) + first * lanes(r));
      }
    };
    at::parallel_for(0, rows, grain(length), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row += kTogether) run(row, std::min(kTogether, end - row));
    });
  });
  return out;
}

std::vector<Tensor> low_rank_sums(const std::vector<LowRankSum>& wanted) {
  std::vector<Tensor> out(wanted.size());
  if (wanted.empty()) return out;
  const std::vector<std::vector<size_t>> groups = by_rows(wanted);
  std::vector<LowRankSum> work;
  std::vector<Tensor> sums;
  int64_t pieces = 0;
  for (const std::vector<size_t>& group : groups) {
    work.push_back(joined(wanted, group));
    pieces += pieces_of(work.back());
    sums.push_back(at::zeros({work.back().r, lanes(work.back().x.size(1))}, at::kFloat));
  }
  by_type(wanted[0].x, [&]<class T>(T) {
    const auto run = [&](size_t i, int64_t begin, int64_t end) {
      const auto& [u, x, r] = work[i];
      kernels<T>().low_rank_outer({.rows = x.size(0),
                                   .n = x.size(1),
                                   .r = r,
                                   .u = data<float>(u),
                                   .u_stride = u.size(1),
                                   .x = data<T>(x),
                                   .result = writable<float>(sums[i]),
                                   .result_stride = sums[i].size(1),
                                   .first_column = begin * kColumns,
                                   .last_column = std::min(x.size(1), end * kColumns)});
    };
    // Threads take columns, not rows: each element is summed in one order, whatever their number.
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      int64_t first = 0;
      for (size_t i = 0; i < work.size(); ++i) {
        const int64_t last = first + pieces_of(work[i]);
        const int64_t from = std::max(begin, first), to = std::min(end, last);
        if (from < to) run(i, from - first, to - first);
        first = last;
      }
    });
  });
  for (size_t group = 0; group < groups.size(); ++group) {
    int64_t row = 0;
    for (const size_t i : groups[group]) {
      out[i] = sums[group].narrow(0, row, wanted[i].r).narrow(1, 0, wanted[i].x.size(1));
      row += wanted[i].r;
    }
  }
  return out;
}

}  // namespace graft::ops
