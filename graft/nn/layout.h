// Where each sequence's rows lie in a packed batch. T rows, B sequences; no padding exists inside the
// program.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace graft {

using at::Tensor;

struct Layout {
  std::vector<int64_t> offsets{0};  // [B + 1]; sequence b is rows offsets[b] … offsets[b + 1] - 1
  Tensor positions;                 // [T] int64, each row's position in its own sequence

  int64_t sequences() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t rows() const { return offsets.back(); }
  int64_t length(int64_t b) const {
    return offsets[static_cast<size_t>(b) + 1] - offsets[static_cast<size_t>(b)];
  }
  int64_t longest() const;
  /// One more than the highest position; 0 without rows.
  int64_t reach() const;

  /// Positions count from `first` (one a sequence; 0 where empty) in each sequence.
  static Layout of(const std::vector<int64_t>& lengths, const std::vector<int64_t>& first = {});
  /// Errors: DataError where a position is `limit` or more (learned positions end there).
  void check_positions(int64_t limit) const;
  /// [B] int64: each sequence's first / last row.
  Tensor first_rows() const;
  Tensor last_rows() const;
  /// [B]: each sequence's last row whose id is another one, else its first; ids [T] int64.
  Tensor last_rows_without(const Tensor& ids, int64_t id) const;
};

}  // namespace graft
