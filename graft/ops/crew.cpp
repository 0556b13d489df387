#include "graft/ops/crew.h"

#include <ATen/Parallel.h>
#include <immintrin.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace graft::ops {
namespace {

constexpr int64_t kOver = std::numeric_limits<int64_t>::max();
constexpr int64_t kLine = 64;
/// Looks at a flag between two times the system is asked to run somebody else: some tens of microseconds.
constexpr int kLooks = 4096;

/// What is fetched ahead at the most: what stays in the second cache beside the rows.
int64_t kept_bytes() {
  static const int64_t bytes = std::max<int64_t>(256 << 10, sysconf(_SC_LEVEL2_CACHE_SIZE) / 2);
  return bytes;
}

thread_local Crew* walking = nullptr;

/// Waits until ready(), doing `meanwhile` again and again.
template <class Ready, class Meanwhile>
void wait_until(const Ready& ready, const Meanwhile& meanwhile) {
  for (int looks = 0; !ready(); ++looks) {
    if (meanwhile()) continue;
    _mm_pause();
    if (looks % kLooks == kLooks - 1) sched_yield();
  }
}

}  // namespace

class Crew::Walk {
 public:
  explicit Walk(Crew& crew) : crew_(crew) { walking = &crew; }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;
  ~Walk() {
    walking = nullptr;
    crew_.begun_.store(kOver, std::memory_order_release);
  }

 private:
  Crew& crew_;
};

/// Goes through a member's parts of the weights of coming work, a few lines at a time.
class Crew::Fetching {
 public:
  Fetching(const Crew& crew, int64_t member)
      : crew_(crew), member_(member), fetched_(crew.expected_.size(), 0) {
    begin(0);
  }
  /// To be called when `done` works of the pass are done: what was fetched for them is not kept.
  void go_on(size_t done) {
    for (; done_ < std::min(done, fetched_.size()); ++done_) kept_ -= fetched_[done_];
    if (work_ < done) begin(done);
  }
  /// Asks for the next lines; false where there is nothing more to fetch.
  bool some() {
    constexpr int kLines = 8;
    if (kept_ >= kept_bytes()) return false;
    while (place_ == end_) {
      if (work_ >= fetched_.size()) return false;
      if (!next_range()) begin(work_ + 1);
    }
    for (int i = 0; i < kLines && place_ < end_; ++i, place_ += kLine) {
      __builtin_prefetch(place_, 0, 2);
      fetched_[work_] += kLine, kept_ += kLine;
    }
    return true;
  }

 private:
  void begin(size_t work) {
    work_ = work, range_ = 0, place_ = end_ = nullptr;
    if (work >= fetched_.size()) return;
    int64_t pieces = 0;
    for (const ReadRange& range : crew_.expected_[work]) pieces += range.pieces;
    first_ = crew_.first_piece(pieces, member_), last_ = crew_.first_piece(pieces, member_ + 1);
  }
  /// The part of the work's next range; false where none is left.
  bool next_range() {
    const std::vector<ReadRange>& reads = crew_.expected_[work_];
    while (range_ < reads.size()) {
      const ReadRange& range = reads[range_++];
      const int64_t begin = std::clamp<int64_t>(first_, 0, range.pieces),
                    end = std::clamp<int64_t>(last_, 0, range.pieces);
      first_ -= range.pieces, last_ -= range.pieces;
      if (begin == end) continue;
      const char* const bytes = static_cast<const char*>(range.begin);
      place_ = bytes + begin * range.piece_bytes;
      end_ = place_ + ((end - begin) * range.piece_bytes + kLine - 1) / kLine * kLine;
      return true;
    }
    return false;
  }

  const Crew& crew_;
  const int64_t member_;
  std::vector<int64_t> fetched_;  // bytes, of each work
  int64_t kept_ = 0;              // of works that are not done
  size_t done_ = 0, work_ = 0, range_ = 0;
  int64_t first_ = 0, last_ = 0;
  const char *place_ = nullptr, *end_ = nullptr;
};

Crew::Crew() : members_(at::get_num_threads()), parts_(static_cast<size_t>(members_)) {}

Crew* Crew::current() { return walking; }

int64_t Crew::first_piece(int64_t pieces, int64_t member) const { return pieces * member / members_; }

void Crew::run(const std::function<void()>& pass) {
  begun_.store(0, std::memory_order_relaxed);
  reads_.clear();
  at::parallel_for(0, members_, 1, [&](int64_t begin, int64_t end) {
    if (begin > 0) return serve(begin);
    // Where fewer threads came than were asked for, the others find the pass over.
    alone_ = end - begin != 1 || members_ == 1;
    const Walk walk(*this);
    pass();
  });
  std::swap(reads_, expected_);
}

void Crew::share(const Work& work, std::vector<ReadRange> reads) {
  if (alone_ || work.pieces <= 1) {
    for (int64_t i = 0; i < work.pieces; i += work.together)
      work.call(work.run, i, std::min(work.pieces, i + work.together), 0);
    return;
  }
  work_ = work;
  for (int64_t member = 0; member < members_; ++member) {
    Part& part = parts_[static_cast<size_t>(member)];
    part.next.store(first_piece(work.pieces, member), std::memory_order_relaxed);
    part.end = first_piece(work.pieces, member + 1);
  }
  at_work_.store(members_ - 1, std::memory_order_relaxed);
  begun_.fetch_add(1, std::memory_order_release);
  work_on(0);
  wait_until([&] { return at_work_.load(std::memory_order_acquire) == 0; }, [] { return false; });
  reads_.push_back(std::move(reads));
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Crew::serve(int64_t member) {
  Fetching fetching(*this, member);
  for (int64_t done = 0;; ++done) {
    fetching.go_on(static_cast<size_t>(done));
    wait_until([&] { return begun_.load(std::memory_order_acquire) != done; },
               [&] { return fetching.some(); });
    if (begun_.load(std::memory_order_relaxed) == kOver) return;
    work_on(member);
    at_work_.fetch_sub(1, std::memory_order_release);
  }
}

void Crew::work_on(int64_t member) {
  try {
    for (int64_t k = 0; k < members_; ++k) {
      Part& part = parts_[static_cast<size_t>((member + k) % members_)];
      // Half of what is left at the most: all end together.
      const auto take = [&](int64_t& first) {
        int64_t count = 0;
        first = part.next.load(std::memory_order_relaxed);
        do {
          count = std::min((part.end - first + 1) / 2, work_.together);
        } while (count > 0 &&
                 !part.next.compare_exchange_weak(first, first + count, std::memory_order_relaxed));
        return count;
      };
      int64_t first = 0;
      while (const int64_t count = take(first)) work_.call(work_.run, first, first + count, member);
    }
  } catch (...) {
    const std::lock_guard lock(failure_lock_);
    failure_ = std::current_exception();
  }
}

}  // namespace graft::ops
