// Several adapters in one packed batch, each on its own range of rows.
#pragma once
#include <memory>
#include <vector>

#include "graft/peft/adapter.h"

namespace graft {

/// Adapter i acts on rows ends[i - 1] … ends[i] - 1 (from 0 for the first); whoever runs a batch sets them
/// first.
using RowEnds = std::shared_ptr<std::vector<int64_t>>;

/// An adapter to attach in place of `adapters` (nullptr: those rows see the base alone);
/// tensors are shared. Batches must ask for all rows (`Batch::rows` undefined) of a model with one stack.
/// Errors: UsageError where an adapter acts elsewhere than inside linear maps and embeddings.
Adapter side_by_side(const std::vector<const Adapter*>& adapters, RowEnds ends);

}  // namespace graft
