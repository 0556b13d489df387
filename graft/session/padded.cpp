#include "graft/session/padded.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "graft/base/error.h"

namespace graft {
namespace {

const std::vector<std::string>& known_inputs() {
  static const std::vector<std::string> names = {
      "input_ids",       "attention_mask", "token_type_ids",    "position_ids",           "labels",
      "start_positions", "end_positions",  "decoder_input_ids", "decoder_attention_mask", "task_ids"};
  return names;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Ids for the decoder: the labels one place to the right; each sequence ends with its last label.
void shift_labels(TensorMap& tensors, int64_t start, int64_t pad) {
  const Tensor labels = tensors.at("labels");
  Tensor ids = labels.masked_fill(labels.eq(-100), pad).roll(1, 1);
  ids.select(1, 0).fill_(start);
  const Tensor labelled = labels.ne(-100).to(at::kLong);
  tensors["decoder_input_ids"] = ids;
  // Ones up to the last label of the row.
  tensors["decoder_attention_mask"] = labelled.flip({1}).cumsum(1).flip({1}).gt(0).to(at::kLong);
}

Tensor find_in(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? Tensor() : found->second;
}

void check_inputs(TensorMap& tensors, const std::string& where) {
  for (auto& [name, tensor] : tensors) {
    const auto& known = known_inputs();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw DataError(where, "unknown tensor: {}, expected one of {}{}", name, fmt::join(known, ", "),
                      did_you_mean(name, known));
    }
    if (name == "labels" && tensor.is_floating_point()) continue;
    if (tensor.is_floating_point())
      throw DataError(where, "{}: {}, expected integers", name, toString(tensor.scalar_type()));
    tensor = tensor.to(at::kLong);
  }
  const Tensor ids = find_in(tensors, "input_ids");
  if (!ids.defined()) throw DataError(where, "no input_ids, expected [B, L] int64");
  if (ids.dim() < 2 || ids.dim() > 3 || ids.numel() == 0) {
    throw DataError(where, "input_ids: {}, expected [B, L] or [B, choices, L]",
                    shape_text(ids.sizes().vec()));
  }
  for (const char* name : {"attention_mask", "token_type_ids", "position_ids"}) {
    const Tensor tensor = find_in(tensors, name);
    if (tensor.defined() && tensor.sizes() != ids.sizes()) {
      throw DataError(where, "{}: {}, expected {} as input_ids", name, shape_text(tensor.sizes().vec()),
                      shape_text(ids.sizes().vec()));
    }
  }
}

}  // namespace

PaddedRows::PaddedRows(const std::vector<int64_t>& shape, const Tensor& mask, const std::string& where)
    : shape_(shape) {
  int64_t count = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  const Tensor flat = mask.defined() ? mask.ne(0).reshape({count, columns()}).contiguous() : Tensor();
  for (int64_t b = 0; b < count; ++b) {
    int64_t first = 0, end = columns();
    if (flat.defined()) {
      const bool* row = flat.const_data_ptr<bool>() + b * columns();
      while (first < end && !row[first]) ++first;
      while (end > first && !row[end - 1]) --end;
      if (std::count(row + first, row + end, false) > 0) {
        throw DataError(where, "attention_mask: a hole in sequence {}, expected pads at the ends only", b);
      }
    }
    if (first == end)
      throw DataError(where, "attention_mask: no ones in sequence {}, expected at least one", b);
    first_.push_back(first);
    lengths_.push_back(end - first);
  }
}

int64_t PaddedRows::virtual_rows(const Layout& layout) const { return layout.length(0) - lengths_[0]; }

Tensor PaddedRows::rows_for(const Layout& layout, int64_t in_front) const {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(layout.rows()));
  const int64_t width = in_front + columns();
  for (int64_t b = 0; b < sequences(); ++b) {
    for (int64_t i = 0; i < layout.length(b); ++i) {
      rows.push_back(b * width + (i < in_front ? i : i + first_column(b)));
    }
  }
  return at::tensor(rows, at::kLong);
}

Tensor PaddedRows::pack(const Tensor& padded) const {
  const auto leading = static_cast<int64_t>(shape_.size());
  std::vector<int64_t> flat{sequences() * columns()};
  for (int64_t i = leading; i < padded.dim(); ++i) flat.push_back(padded.size(i));
  return padded.reshape(flat).index_select(0, rows_for(Layout::of(lengths_), 0));
}

Tensor PaddedRows::scatter(const Tensor& packed, const Layout& layout) const {
  const int64_t in_front = virtual_rows(layout), width = in_front + columns();
  Tensor out = at::zeros({sequences() * width, packed.size(1)}, packed.options());
  out.index_copy_(0, rows_for(layout, in_front), packed);
  std::vector<int64_t> shape(shape_.begin(), shape_.end() - 1);
  shape.push_back(width);
  shape.push_back(packed.size(1));
  return out.view(shape);
}

PaddedInputs PaddedInputs::of(TensorMap tensors, std::optional<int64_t> decoder_start, int64_t pad,
                              const std::string& where) {
  check_inputs(tensors, where);
  const Tensor ids = tensors.at("input_ids");
  PaddedInputs out{std::move(tensors), PaddedRows(ids.sizes().vec(), Tensor(), where), std::nullopt};
  out.rows = PaddedRows(ids.sizes().vec(), out.find("attention_mask"), where);
  if (!decoder_start) return out;
  if (!out.find("decoder_input_ids").defined()) {
    const Tensor labels = out.find("labels");
    if (!labels.defined() || labels.dim() != 2 || labels.size(0) != ids.size(0)) {
      throw DataError(where, "no decoder_input_ids and no labels [B, U], expected one of them");
    }
    shift_labels(out.tensors, *decoder_start, pad);
  }
  const Tensor decoder_ids = out.find("decoder_input_ids");
  out.decoder_rows = PaddedRows(decoder_ids.sizes().vec(), out.find("decoder_attention_mask"), where);
  return out;
}

Tensor PaddedInputs::find(const std::string& name) const { return find_in(tensors, name); }

Batch PaddedInputs::batch() const {
  Batch batch;
  batch.layout = Layout::of(rows.lengths());
  batch.input_ids = rows.pack(find("input_ids"));
  if (const Tensor types = find("token_type_ids"); types.defined()) batch.token_type_ids = rows.pack(types);
  if (const Tensor positions = find("position_ids"); positions.defined()) {
    batch.layout.positions = rows.pack(positions);
  }
  if (decoder_rows) {
    batch.decoder_layout = Layout::of(decoder_rows->lengths());
    batch.decoder_input_ids = decoder_rows->pack(find("decoder_input_ids"));
  }
  return batch;
}

}  // namespace graft
