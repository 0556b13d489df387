// The deterministic order of examples and their batches: a function of (seed, epoch), so that a position is
// two numbers.
#pragma once
#include <cstdint>
#include <vector>

namespace graft {

struct BatchOptions {
  int64_t batch_size = 8;    // sequences a batch; used where batch_tokens is 0
  int64_t batch_tokens = 0;  // at most so many rows a batch (at least one sequence)
  bool shuffle = true;
  bool group_by_length = false;  // batches of like lengths, in shuffled order
  bool drop_last = false;
};

/// The batches of one epoch, each a list of indices into `lengths` (rows of each sequence).
std::vector<std::vector<int64_t>> epoch_batches(const std::vector<int64_t>& lengths,
                                                const BatchOptions& options, uint64_t seed, int64_t epoch);

}  // namespace graft
