// Work in unequal pieces over the threads: each takes the next piece when it is done with one.
#pragma once
#include <ATen/Parallel.h>

#include <atomic>
#include <cstdint>

#include "graft/ops/crew.h"

namespace graft::ops {

/// Calls piece(index, worker) for every index below `pieces`; worker < at::get_num_threads(). Order is by
/// index, largest work first is best.
template <class Piece>
void each_piece(int64_t pieces, const Piece& piece) {
  if (Crew* const crew = Crew::current())
    return crew->share(pieces, 1, {}, [&](int64_t i, int64_t, int64_t member) { piece(i, member); });
  std::atomic<int64_t> next{0};
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t i = next++; i < pieces; i = next++) piece(i, worker);
    }
  });
}

}  // namespace graft::ops
