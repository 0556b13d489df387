// Products by a weight in panels: a few columns' units side by side, so that a row streams them and many rows
// share them.
#pragma once
#include <ATen/core/Tensor.h>

#include "graft/ops/kernels.h"
#include "graft/ops/parallel.h"

namespace graft::ops {

using at::Tensor;

/// Rows that one piece of a product takes: they stay in the second cache while the panels pass.
constexpr int64_t kPanelRows = 96;

struct PanelPiece {
  int64_t row, rows, column, columns;
};

/// Calls run(piece) for all blocks of rows × panels of columns, over the threads. A panel's units start at
/// `column` times the number of units.
template <class Run>
void each_panel(int64_t rows, int64_t columns, const Run& run) {
  const int64_t panels = (columns + kPanel - 1) / kPanel, blocks = (rows + kPanelRows - 1) / kPanelRows;
  const auto piece = [&](int64_t block, int64_t panel) {
    const int64_t row = block * kPanelRows, column = panel * kPanel;
    run({row, std::min(kPanelRows, rows - row), column, std::min(kPanel, columns - column)});
  };
  // One block streams the weight from memory: each thread takes a stretch of it.
  if (blocks == 1) {
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) piece(0, panel);
    });
    return;
  }
  each_piece(blocks * panels, [&](int64_t i, int64_t) { piece(i / panels, i % panels); });
}

/// columns [columns, summed] contiguous, float32 or bfloat16 (an even number summed) → their units in panels,
/// int32.
Tensor pack_units(const Tensor& columns);

/// x [T, summed] · columnsᵀ + bias ([columns] or undefined) → [T, columns] in x's type, which is the
/// columns'.
Tensor panel_product(const Tensor& x, const Tensor& units, int64_t columns, const Tensor& bias);

}  // namespace graft::ops
