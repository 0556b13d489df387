// Products by a weight in panels: a few columns' units side by side, so that a row streams them and many rows
// share them.
#pragma once
#include <ATen/core/Tensor.h>

#include "graft/ops/kernels.h"
#include "graft/ops/parallel.h"

namespace graft::ops {

using at::Tensor;

struct PanelPiece {
  int64_t row, rows, column, columns;
};

/// Rows of a piece: as many as the second cache keeps while the panels pass, at most `most`.
inline int64_t piece_rows(int64_t most, int64_t row_bytes) {
  constexpr int64_t kKept = 512 << 10, kLeast = 96, kGrain = 32;
  return std::min(most, std::max(kLeast, kKept / row_bytes / kGrain * kGrain));
}

/// Calls run(piece) for all blocks of rows × stretches of columns, as large as the kernels' pieces, over the
/// threads; `row_bytes`: of the left side. A panel's units start at `column` times the number of units.
template <class T, class Run>
void each_panel(int64_t rows, int64_t columns, int64_t row_bytes, const Kernels<T>& kernels, const Run& run) {
  const int64_t highest = piece_rows(kernels.piece_rows, row_bytes);
  const int64_t panels = (columns + kPanel - 1) / kPanel, blocks = (rows + highest - 1) / highest;
  const auto piece = [&](int64_t block, int64_t first, int64_t last) {
    const int64_t row = block * highest, column = first * kPanel;
    run({row, std::min(highest, rows - row), column, std::min(last * kPanel, columns) - column});
  };
  const int64_t most = kernels.piece_columns / kPanel;
  // One block streams the weight from memory: each thread takes a stretch of it.
  if (blocks == 1) {
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; panel += most) piece(0, panel, std::min(end, panel + most));
    });
    return;
  }
  // Stretches of nearly equal width.
  const int64_t stretches = (panels + most - 1) / most, each = (panels + stretches - 1) / stretches;
  each_piece(blocks * stretches, [&](int64_t i, int64_t) {
    const int64_t first = std::min(panels, i % stretches * each), last = std::min(panels, first + each);
    if (first < last) piece(i / stretches, first, last);
  });
}

/// columns [columns, summed], float32 or bfloat16 → their units in panels, int32, as the kernels chosen now
/// want them.
Tensor pack_units(const Tensor& columns);

/// x [T, summed] · columnsᵀ + bias ([columns] or undefined) → [T, columns] in x's type, which is the
/// columns'.
Tensor panel_product(const Tensor& x, const Tensor& units, int64_t columns, const Tensor& bias);

}  // namespace graft::ops
