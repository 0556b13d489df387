#include "graft/ops/panel_product.h"

#include <ATen/ATen.h>

#include "graft/ops/types.h"

namespace graft::ops {

namespace {

/// With a zero after each row where it does not fill its last unit.
Tensor whole_units(const Tensor& rows) {
  const bool whole = rows.size(1) * rows.element_size() % 4 == 0;
  return whole ? rows.contiguous() : at::constant_pad_nd(rows, {0, 1}, 0);
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

Tensor panel_product(const Tensor& x, const Tensor& units, int64_t columns, const Tensor& bias) {
  const Tensor in = whole_units(x), added = bias.defined() ? bias.to(x.scalar_type()).contiguous() : bias;
  const int64_t summed = in.size(1);
  const Tensor y = at::empty({x.size(0), columns}, x.options().requires_grad(false));
  by_type(x, [&]<class T>(T) {
    const int64_t depth = 4 / static_cast<int64_t>(sizeof(T));
    each_panel(x.size(0), columns, summed * in.element_size(), kernels<T>(), [&](const PanelPiece& p) {
      kernels<T>().panel_product({.rows = p.rows,
                                  .units = summed / depth,
                                  .columns = p.columns,
                                  .x = data<T>(in) + p.row * summed,
                                  .x_stride = summed,
                                  .panel = data<int32_t>(units) + p.column * (summed / depth),
                                  .bias = added.defined() ? data<T>(added) + p.column : nullptr,
                                  .y = writable<T>(y) + p.row * columns + p.column,
                                  .y_stride = columns});
    });
  });
  return y;
}

}  // namespace graft::ops
