#include "graft/nn/layout.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"
#include "graft/ops/few_values.h"

namespace graft {

int64_t Layout::longest() const {
  int64_t most = 0;
  for (int64_t b = 0; b < sequences(); ++b) most = std::max(most, length(b));
  return most;
}

int64_t Layout::reach() const {
  if (positions.numel() == 0) return 0;
  const Tensor all = positions.contiguous();
  const int64_t* const first = all.const_data_ptr<int64_t>();
  return *std::max_element(first, first + all.numel()) + 1;
}

Layout Layout::of(const std::vector<int64_t>& lengths, const std::vector<int64_t>& first) {
  if (!first.empty() && first.size() != lengths.size()) {
    throw InternalError("layout", "{} first positions for {} sequences", first.size(), lengths.size());
  }
  Layout layout;
  for (const int64_t length : lengths) {
    if (length < 0) throw InternalError("layout", "length {}, expected at least 0", length);
    layout.offsets.push_back(layout.offsets.back() + length);
  }
  std::vector<int64_t> positions;
  for (size_t b = 0; b < lengths.size(); ++b) {
    const int64_t start = first.empty() ? 0 : first[b];
    for (int64_t i = 0; i < lengths[b]; ++i) positions.push_back(start + i);
  }
  layout.positions = ops::whole_numbers(positions);
  return layout;
}

void Layout::check_positions(int64_t limit) const {
  if (reach() > limit) {
    throw DataError("input", "position {}, the model reads at most {} tokens; shorten the sequence",
                    reach() - 1, limit);
  }
}

Tensor Layout::first_rows() const {
  return ops::whole_numbers(at::IntArrayRef(offsets).slice(0, offsets.size() - 1));
}

Tensor Layout::last_rows() const {
  std::vector<int64_t> rows(offsets.begin() + 1, offsets.end());
  for (int64_t& row : rows) --row;
  return ops::whole_numbers(rows);
}

Tensor Layout::last_rows_without(const Tensor& ids, int64_t id) const {
  const int64_t* const all = ids.const_data_ptr<int64_t>();
  std::vector<int64_t> rows;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    int64_t row = offsets[b + 1] - 1;
    while (row > offsets[b] && all[row] == id) --row;
    rows.push_back(row);
  }
  return ops::whole_numbers(rows);
}

}  // namespace graft
