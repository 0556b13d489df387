// Threads that stay together through a pass of few rows. Such a pass waits for memory: each of its products
// reads weights once, and what lies between the products is too small for more than one thread. One thread
// walks through the pass; the others take their parts of its products, and fetch their parts of the next
// product's weights while they wait.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

namespace graft::ops {

/// Rows of a pass that waits for memory: what it computes beside its products is less than threads cost.
constexpr int64_t kFewRows = 16;

/// Memory that equal pieces of some work read, one after the other.
struct ReadRange {
  const void* begin = nullptr;
  int64_t piece_bytes = 0, pieces = 0;
};

class Crew {
 public:
  Crew();
  /// Runs `pass` on this thread beside the others, at::get_num_threads() in all; at::parallel_for takes one
  /// thread meanwhile. Throws what `pass` throws. The next pass is expected to share the same work.
  void run(const std::function<void()>& pass);
  /// The crew whose pass this thread is walking through, or null.
  static Crew* current();

  /// Calls run(first, last, member) for all pieces from 0 to `pieces`, at most `together` at a time, member <
  /// at::get_num_threads(). `reads`: the weights of the pieces in their order; empty: nothing worth fetching.
  template <class Run>
  void share(int64_t pieces, int64_t together, std::vector<ReadRange> reads, const Run& run) {
    share(Work{pieces, together, &run,
               [](const void* of, int64_t first, int64_t last, int64_t member) {
                 (*static_cast<const Run*>(of))(first, last, member);
               }},
          std::move(reads));
  }

 private:
  struct Work {
    int64_t pieces = 0, together = 1;
    const void* run = nullptr;
    void (*call)(const void* run, int64_t first, int64_t last, int64_t member) = nullptr;
  };
  /// A member's own pieces; others take of them when they have none left.
  struct alignas(64) Part {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  class Walk;
  class Fetching;

  void share(const Work& work, std::vector<ReadRange> reads);
  void serve(int64_t member);
  void work_on(int64_t member);
  int64_t first_piece(int64_t pieces, int64_t member) const;

  const int64_t members_;
  std::vector<Part> parts_;
  bool alone_ = false;
  Work work_;
  // What each shared work read in this pass and in the last one, which nobody writes meanwhile.
  std::vector<std::vector<ReadRange>> reads_, expected_;
  std::exception_ptr failure_;
  std::mutex failure_lock_;
  alignas(64) std::atomic<int64_t> begun_{0};    // works of this pass; kOver: the pass is over
  alignas(64) std::atomic<int64_t> at_work_{0};  // members that have not done their part
};

}  // namespace graft::ops
