// Padded tensors as other software has them, packed for the model and scattered back: the only place where
// padding exists.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graft/io/tensor_map.h"
#include "graft/nn/batch.h"

namespace graft {

/// Where the real rows of a padded tensor lie. N sequences of L columns; the leading shape is [B] or [B,
/// choices].
class PaddedRows {
 public:
  /// mask [.., L], ones where a row is real, or undefined: all are. `shape` is that of the ids. Errors:
  /// DataError (a sequence without rows, or with a hole).
  PaddedRows(const std::vector<int64_t>& shape, const Tensor& mask, const std::string& where);

  /// [.., L, …] → [T, …].
  Tensor pack(const Tensor& padded) const;
  /// packed [T', n] → [.., V + L, n] with zeros at pads, where each sequence of `layout` has V rows in front
  /// of its own.
  Tensor scatter(const Tensor& packed, const Layout& layout) const;
  /// Rows that `layout` has in front of each sequence's own.
  int64_t virtual_rows(const Layout& layout) const;

  const std::vector<int64_t>& lengths() const { return lengths_; }
  const std::vector<int64_t>& shape() const { return shape_; }  // leading shape, then L
  int64_t columns() const { return shape_.back(); }
  int64_t sequences() const { return static_cast<int64_t>(lengths_.size()); }
  /// The column of sequence b's first real row.
  int64_t first_column(int64_t b) const { return first_[static_cast<size_t>(b)]; }

 private:
  Tensor rows_for(const Layout& layout, int64_t in_front) const;

  std::vector<int64_t> shape_, lengths_, first_;
};

/// A padded batch read from named tensors.
struct PaddedInputs {
  TensorMap tensors;
  PaddedRows rows;
  std::optional<PaddedRows> decoder_rows;  // encoder-decoders

  /// Reads input_ids, attention_mask, token_type_ids, position_ids, labels, start_positions, end_positions,
  /// decoder_input_ids, decoder_attention_mask; decoder inputs come from the labels where they are not given
  /// (`decoder_start` in front). Errors: DataError naming every unknown or misshapen tensor.
  static PaddedInputs of(TensorMap tensors, std::optional<int64_t> decoder_start, int64_t pad,
                         const std::string& where);
  /// The packed batch.
  Batch batch() const;
  /// Undefined where there is none.
  Tensor find(const std::string& name) const;
};

}  // namespace graft
