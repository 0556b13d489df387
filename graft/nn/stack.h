// A network's blocks one after the other: what a trace sees, and which rows the last block computes.
#pragma once
#include <memory>
#include <vector>

#include "graft/nn/attention.h"

namespace graft {

/// x [T, hidden] through `blocks` (each with forward(x, LayerPass)), then through `finish` (the last norm) →
/// [T, hidden], or [N, hidden] where rows are read. The trace gets every block's input and the end.
template <class Block, class Finish>
Tensor run_stack(const std::vector<std::unique_ptr<Block>>& blocks, Tensor x, const Batch& batch,
                 Finish finish) {
  const auto read = ReadRows::of(batch, batch.layout);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (batch.trace != nullptr) batch.trace->hidden_states.push_back(x);
    const ReadRows* last = i + 1 == blocks.size() && read ? &*read : nullptr;
    x = blocks[i]->forward(x, LayerPass{batch, batch.layout, static_cast<int64_t>(i), last});
  }
  x = finish(x);
  if (batch.trace == nullptr) return x;
  batch.trace->hidden_states.push_back(x);
  return batch.rows.defined() ? x.index_select(0, batch.rows) : x;
}

}  // namespace graft
