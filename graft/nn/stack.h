// A network's blocks one after the other: what a trace sees, and which rows the last block computes.
#pragma once
#include <memory>
#include <vector>

#include "graft/nn/attention.h"
#include "graft/nn/recompute.h"

namespace graft {

/// What the blocks of one stack see beside their inputs; a copy lives on until its blocks' backward passes.
struct StackPass {
  const Batch batch;
  const Layout layout;
  const std::optional<ReadRows> read;  // of the last block
};

/// One block of a stack: `block(x, LayerPass)`. The first ones keep no activations while a RecomputeGuard
/// says so; the last one always does, as nothing comes between its forward and its backward pass.
template <class Run>
Tensor run_block(const std::shared_ptr<const StackPass>& stack, size_t index, size_t count, const Tensor& x,
                 const Run& block) {
  const auto layer = static_cast<int64_t>(index);
  const bool last = index + 1 == count;
  if (last || layer >= RecomputeGuard::blocks()) {
    const ReadRows* read = last && stack->read ? &*stack->read : nullptr;
    return block(x, LayerPass{stack->batch, stack->layout, layer, read});
  }
  const auto part = [stack, layer, block](const Tensor& input, RandomStream* dropout) {
    Batch batch = stack->batch;
    batch.dropout = dropout;
    return block(input, LayerPass{batch, stack->layout, layer, nullptr});
  };
  return recomputed(part, x, stack->batch.dropout);
}

/// x [T, hidden] through `blocks` (each with forward(x, LayerPass)), then through `finish` (the last norm) →
/// [T, hidden], or [N, hidden] where rows are read. The trace gets every block's input and the end.
template <class Block, class Finish>
Tensor run_stack(const std::vector<std::unique_ptr<Block>>& blocks, Tensor x, const Batch& batch,
                 Finish finish) {
  const auto stack =
      std::make_shared<const StackPass>(StackPass{batch, batch.layout, ReadRows::of(batch, batch.layout)});
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (batch.trace != nullptr) batch.trace->hidden_states.push_back(x);
    const Block& block = *blocks[i];
    x = run_block(stack, i, blocks.size(), x,
                  [&block](const Tensor& y, const LayerPass& pass) { return block.forward(y, pass); });
  }
  x = finish(x);
  if (batch.trace == nullptr) return x;
  batch.trace->hidden_states.push_back(x);
  return batch.rows.defined() ? x.index_select(0, batch.rows) : x;
}

}  // namespace graft
