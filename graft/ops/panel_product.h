// Products by a weight in panels: a few columns' units side by side, so that a row streams them and many rows
// share them.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

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

/// The right side of a product: its panels' units, `depth` a column.
struct Panels {
  int64_t columns;
  const int32_t* units;
  int64_t depth;
  int64_t count() const { return (columns + kPanel - 1) / kPanel; }
};

/// Few rows' products over the threads of a crew, in pieces of `each` panels, `together` of which may be run
/// as one. Pieces are equal, so that each product's lie in one range of memory.
template <class Run>
void share_panels(Crew& crew, const std::vector<Panels>& products, int64_t each, int64_t together,
                  const Run& run) {
  std::vector<ReadRange> reads;
  int64_t pieces = 0;
  for (const Panels& product : products) {
    reads.push_back({product.units, each * kPanel * product.depth * 4, (product.count() + each - 1) / each});
    pieces += reads.back().pieces;
  }
  crew.share(pieces, together, reads, [&](int64_t first, int64_t last, int64_t) {
    for (size_t product = 0; product < reads.size(); ++product) {
      const int64_t count = reads[product].pieces, end = std::min(last, count);
      if (first < end) run(product, first * each, std::min(end * each, products[product].count()));
      first = std::max<int64_t>(0, first - count), last = std::max<int64_t>(0, last - count);
    }
  });
}

/// Calls run(product, piece) for all blocks of rows × stretches of columns of some products of equally many
/// rows, as large as the kernels' pieces, over the threads; `row_bytes`: of the left sides. A panel's units
/// start at `column` times the number of units.
template <class T, class Run>
void each_panel(int64_t rows, const std::vector<Panels>& products, int64_t row_bytes,
                const Kernels<T>& kernels, const Run& run) {
  const int64_t highest = piece_rows(kernels.piece_rows, row_bytes);
  const int64_t most = kernels.piece_columns / kPanel, blocks = (rows + highest - 1) / highest;
  const auto piece = [&](size_t product, int64_t block, int64_t first, int64_t last) {
    const int64_t row = block * highest, column = first * kPanel;
    run(product, PanelPiece{row, std::min(highest, rows - row), column,
                            std::min(last * kPanel, products[product].columns) - column});
  };
  // One block streams the weights from memory: each thread takes a stretch of them.
  if (blocks == 1) {
    int64_t all = 0;
    for (size_t product = 0; product < products.size(); ++product) all += products[product].count();
    if (Crew* const crew = Crew::current()) {
      constexpr int64_t kEnough = 16;  // pieces a thread, so that all end together
      const int64_t each = std::clamp<int64_t>(all / (kEnough * at::get_num_threads()), 1, most);
      const int64_t together = rows <= kernels.stream_rows ? kernels.stream_panels : 1;
      return share_panels(*crew, products, each, together, [&](size_t product, int64_t first, int64_t last) {
        // Beyond a piece's size only whole panels go side by side.
        if (last - first > most && last * kPanel > products[product].columns)
          piece(product, 0, std::exchange(first, last - 1), last - 1);
        piece(product, 0, first, last);
      });
    }
    at::parallel_for(0, all, 1, [&](int64_t begin, int64_t end) {
      int64_t before = 0;
      for (size_t product = 0; product < products.size(); before += products[product].count(), ++product) {
        const int64_t last = std::min(end - before, products[product].count());
        for (int64_t panel = std::max<int64_t>(0, begin - before); panel < last; panel += most)
          piece(product, 0, panel, std::min(last, panel + most));
      }
    });
    return;
  }
  // Stretches of nearly equal width.
  struct Stretch {
    size_t product;
    int64_t first, last;
  };
  std::vector<Stretch> stretches;
  for (size_t product = 0; product < products.size(); ++product) {
    const int64_t panels = products[product].count(), count = (panels + most - 1) / most;
    const int64_t each = (panels + count - 1) / count;
    for (int64_t first = 0; first < panels; first += each)
      stretches.push_back({product, first, std::min(panels, first + each)});
  }
  const auto count = static_cast<int64_t>(stretches.size());
  each_piece(blocks * count, [&](int64_t i, int64_t) {
    const Stretch& stretch = stretches[static_cast<size_t>(i % count)];
    piece(stretch.product, i / count, stretch.first, stretch.last);
  });
}

/// columns [columns, summed], float32 or bfloat16 → their units in panels, int32, as the kernels chosen now
/// want them.
Tensor pack_units(const Tensor& columns);

/// x [T, summed] · columnsᵀ, the columns [columns, summed] as units in panels; or, turned, those of their
/// transpose, which are put in panels of their own only while the product is made.
struct PanelTerm {
  Tensor x, units;
  bool turned = false;
};
/// A sum of at most kMostTerms products of equal size, and bias ([columns] or undefined).
struct PanelSum {
  std::vector<PanelTerm> terms = {};
  int64_t columns = 0;
  Tensor bias = {};
};
/// All sums, of equally many rows and one type, which is the columns' → [T, columns] of each in that type.
std::vector<Tensor> panel_sums(const std::vector<PanelSum>& sums);

}  // namespace graft::ops
