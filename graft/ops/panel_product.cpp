#include "graft/ops/panel_product.h"

#include <ATen/ATen.h>

#include <array>

#include "graft/ops/types.h"

namespace graft::ops {

namespace {

/// With a zero after each row where it does not fill its last unit.
Tensor whole_units(const Tensor& rows) {
  const bool whole = rows.size(1) * rows.element_size() % 4 == 0;
  return whole ? rows.contiguous() : at::constant_pad_nd(rows, {0, 1}, 0);
}

template <class T>
void run_piece(const PanelSum& sum, const PanelPiece& p, const Tensor& y) {
  std::array<PanelSides<T>, kMostTerms> sides;
  int64_t count = 0;
  for (const auto& [x, units] : sum.terms) {
    const int64_t summed = x.size(1), depth = summed * static_cast<int64_t>(sizeof(T)) / 4;
    sides[static_cast<size_t>(count++)] = {.units = depth,
                                           .x = data<T>(x) + p.row * summed,
                                           .x_stride = summed,
                                           .panel = data<int32_t>(units) + p.column * depth};
  }
  kernels<T>().panel_product({.rows = p.rows,
                              .columns = p.columns,
                              .terms = sides.data(),
                              .count = count,
                              .bias = sum.bias.defined() ? data<T>(sum.bias) + p.column : nullptr,
                              .y = writable<T>(y) + p.row * sum.columns + p.column,
                              .y_stride = sum.columns});
}

}  // namespace

Tensor pack_units(const Tensor& given) {
  const Tensor columns = whole_units(given);
  const int64_t count = columns.size(0), summed = columns.size(1);
  const int64_t units = summed * columns.element_size() / 4, panels = (count + kPanel - 1) / kPanel;
  const int64_t last = (count - (panels - 1) * kPanel + 15) / 16 * 16;
  const Tensor out = at::empty({units * ((panels - 1) * kPanel + last)}, at::kInt);
  by_type(columns, [&]<class T>(T) {
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t first = panel * kPanel;
        kernels<T>().pack_panel(data<T>(columns) + first * summed, std::min(kPanel, count - first), summed,
                                writable<int32_t>(out) + first * units);
      }
    });
  });
  return out;
}

std::vector<Tensor> panel_sums(const std::vector<PanelSum>& sums) {
  std::vector<Tensor> out;
  if (sums.empty()) return out;
  const Tensor& first = sums[0].terms[0].x;
  std::vector<PanelSum> ready = sums;
  std::vector<int64_t> columns;
  int64_t row_bytes = 0;
  for (PanelSum& sum : ready) {
    int64_t bytes = 0;
    for (PanelTerm& term : sum.terms) {
      term.x = whole_units(term.x);
      bytes += term.x.size(1) * term.x.element_size();
    }
    row_bytes = std::max(row_bytes, bytes);
    if (sum.bias.defined()) sum.bias = sum.bias.to(first.scalar_type()).contiguous();
    columns.push_back(sum.columns);
    out.push_back(at::empty({first.size(0), sum.columns}, first.options().requires_grad(false)));
  }
  by_type(first, [&]<class T>(T) {
    each_panel(first.size(0), columns, row_bytes, kernels<T>(),
               [&](size_t i, const PanelPiece& p) { run_piece<T>(ready[i], p, out[i]); });
  });
  return out;
}

}  // namespace graft::ops
