#include "graft/ops/panel_product.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "graft/ops/types.h"

namespace graft::ops {

namespace {

/// 32-bit units that so many values of T fill.
template <class T>
int64_t units_of(int64_t values) {
  constexpr auto kEach = 4 / static_cast<int64_t>(sizeof(T));
  return (values + kEach - 1) / kEach;
}

/// With a zero after each row where it does not fill its last unit.
Tensor whole_units(const Tensor& rows) {
  const bool whole = rows.size(1) * rows.element_size() % 4 == 0;
  return whole ? rows.contiguous() : at::constant_pad_nd(rows, {0, 1}, 0);
}

template <class T>
void run_piece(const PanelSum& sum, const PanelPiece& p, const Tensor& y) {
  std::array<PanelSides<T>, kMostTerms> sides;
  int64_t count = 0;
  for (const PanelTerm& term : sum.terms) {
    const int64_t summed = term.x.size(1), depth = units_of<T>(summed);
    sides[static_cast<size_t>(count++)] = {.units = depth,
                                           .x = data<T>(term.x) + p.row * summed,
                                           .x_stride = summed,
                                           .panel = data<int32_t>(term.units) + p.column * depth};
  }
  kernels<T>().panel_product({.rows = p.rows,
                              .columns = p.columns,
                              .terms = sides.data(),
                              .count = count,
                              .bias = sum.bias.defined() ? data<T>(sum.bias) + p.column : nullptr,
                              .y = writable<T>(y) + p.row * y.stride(0) + p.column,
                              .y_stride = y.stride(0)});
}

/// The sums into their places, `out`, of equally many rows.
template <class T>
void run_sums(const std::vector<PanelSum>& sums, const std::vector<Tensor>& out, int64_t row_bytes) {
  std::vector<Panels> products;
  for (const PanelSum& sum : sums) {
    const PanelTerm& first = sum.terms[0];
    products.push_back({sum.columns, data<int32_t>(first.units), units_of<T>(first.x.size(1))});
  }
  each_panel(out[0].size(0), products, row_bytes, kernels<T>(),
             [&](size_t i, const PanelPiece& p) { run_piece<T>(sums[i], p, out[i]); });
}

/// Of the panels of a matrix [columns, summed], those of its transpose's columns from `first` to `last`.
template <class T>
Tensor turned_units(const Tensor& units, int64_t columns, int64_t summed, int64_t first, int64_t last) {
  const Tensor out = empty({units_of<T>(columns) * ((last - first + 15) / 16 * 16)}, at::kInt);
  at::parallel_for(0, (columns + 15) / 16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t strip = begin; strip < end; ++strip) {
      kernels<T>().turn_panels({.units = data<int32_t>(units),
                                .columns = columns,
                                .summed = summed,
                                .column = 16 * strip,
                                .first = first,
                                .last = last,
                                .out = writable<int32_t>(out)});
    }
  });
  return out;
}

/// What turned panels may take at once; one panel a thread at the least.
constexpr int64_t kTurnedBytes = 32 << 20;

int64_t turned_columns(const PanelSum& sum) {
  int64_t column_bytes = 0;
  for (const PanelTerm& term : sum.terms)
    column_bytes += term.turned ? term.x.size(1) * term.x.element_size() : 0;
  const int64_t panels = kTurnedBytes / (kPanel * std::max<int64_t>(1, column_bytes));
  return std::max<int64_t>(at::get_num_threads(), panels) * kPanel;
}

/// Some columns of the sum after the others, as many as turned panels may be there at once.
template <class T>
void run_turned(const PanelSum& sum, const Tensor& out, int64_t row_bytes) {
  const int64_t each = turned_columns(sum);
  for (int64_t first = 0; first < sum.columns; first += each) {
    const int64_t last = std::min(sum.columns, first + each);
    PanelSum part{.columns = last - first};
    if (sum.bias.defined()) part.bias = sum.bias.narrow(0, first, last - first);
    for (const PanelTerm& term : sum.terms) {
      const int64_t summed = term.x.size(1);
      part.terms.push_back({term.x, term.turned
                                        ? turned_units<T>(term.units, summed, sum.columns, first, last)
                                        : term.units.slice(0, first * units_of<T>(summed))});
    }
    run_sums<T>({part}, {out.narrow(1, first, last - first)}, row_bytes);
  }
}

bool has_turned(const PanelSum& sum) {
  return std::any_of(sum.terms.begin(), sum.terms.end(), [](const PanelTerm& term) { return term.turned; });
}

}  // namespace

Tensor pack_units(const Tensor& given) {
  const Tensor columns = whole_units(given);
  const int64_t count = columns.size(0), summed = columns.size(1);
  const int64_t units = summed * columns.element_size() / 4, panels = (count + kPanel - 1) / kPanel;
  const int64_t last = (count - (panels - 1) * kPanel + 15) / 16 * 16;
  const Tensor out = empty({units * ((panels - 1) * kPanel + last)}, at::kInt);
  by_type(columns, [&]<class T>(T) {
    each_piece(panels, [&](int64_t panel, int64_t) {
      const int64_t first = panel * kPanel;
      kernels<T>().pack_panel(data<T>(columns) + first * summed, std::min(kPanel, count - first), summed,
                              writable<int32_t>(out) + first * units);
    });
  });
  return out;
}

std::vector<Tensor> panel_sums(const std::vector<PanelSum>& sums) {
  std::vector<Tensor> out;
  if (sums.empty()) return out;
  const Tensor& first = sums[0].terms[0].x;
  std::vector<PanelSum> ready = sums;
  int64_t row_bytes = 0;
  for (PanelSum& sum : ready) {
    int64_t bytes = 0;
    for (PanelTerm& term : sum.terms) {
      term.x = whole_units(term.x);
      bytes += term.x.size(1) * term.x.element_size();
    }
    row_bytes = std::max(row_bytes, bytes);
    if (sum.bias.defined()) sum.bias = sum.bias.to(first.scalar_type()).contiguous();
    out.push_back(empty({first.size(0), sum.columns}, first.scalar_type()));
  }
  by_type(first, [&]<class T>(T) {
    if (std::none_of(ready.begin(), ready.end(), has_turned)) return run_sums<T>(ready, out, row_bytes);
    for (size_t i = 0; i < ready.size(); ++i) run_turned<T>(ready[i], out[i], row_bytes);
  });
  return out;
}

}  // namespace graft::ops
