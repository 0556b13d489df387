#include "graft/ops/tensor_memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

#include "graft/base/error.h"
#include "graft/ops/small_blocks.h"

namespace graft::ops {

struct Pieces::State {
  std::set<std::pair<size_t, char*>> by_size;  // free pieces
  std::map<char*, size_t> by_place;            // the same
  std::unordered_map<char*, size_t> taken;

  void add_free(char* place, size_t bytes) {
    by_size.emplace(bytes, place);
    by_place.emplace(place, bytes);
  }
  void remove_free(std::map<char*, size_t>::iterator piece) {
    by_size.erase({piece->second, piece->first});
    by_place.erase(piece);
  }
};

Pieces::Pieces(char* begin, size_t bytes) : state_(std::make_unique<State>()), begin_(begin) {
  state_->add_free(begin, bytes);
}

Pieces::~Pieces() = default;

char* Pieces::take(size_t bytes) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + 63) / 64 * 64;
  const auto found = state_->by_size.lower_bound({rounded, nullptr});
  if (found == state_->by_size.end()) return nullptr;
  const auto [whole, place] = *found;
  state_->remove_free(state_->by_place.find(place));
  if (whole > rounded) state_->add_free(place + rounded, whole - rounded);
  state_->taken.emplace(place, rounded);
  used_ += rounded;
  reached_ = std::max(reached_, static_cast<size_t>(place - begin_) + rounded);
  return place;
}

void Pieces::give_back(char* piece) {
  const auto found = state_->taken.find(piece);
  if (found == state_->taken.end()) throw InternalError("tensor memory", "a piece that was not taken");
  size_t bytes = found->second;
  state_->taken.erase(found);
  used_ -= bytes;
  auto after = state_->by_place.lower_bound(piece);
  if (after != state_->by_place.end() && piece + bytes == after->first) {
    bytes += after->second;
    state_->remove_free(after++);
  }
  if (after != state_->by_place.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == piece) {
      piece = before->first;
      bytes += before->second;
      state_->remove_free(before);
    }
  }
  state_->add_free(piece, bytes);
}

namespace {

/// Smaller tensors lie in blocks: a token's pass asks for some hundreds, whose size barely matters.
constexpr size_t kLarge = SmallBlocks::kLargest;

/// Address space for all large tensors that the machine's memory can hold at once; the pages come when they
/// are written to.
class Region : public at::Allocator {
 public:
  static Region& instance() {
    static Region* const region = new Region;  // tensors may outlive every other static object
    return *region;
  }
  bool usable() const { return pieces_ != nullptr; }

  at::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    void* place = nullptr;
    if (bytes > 0) place = bytes >= kLarge ? take(bytes) : take_small(bytes);
    if (place == nullptr) place = c10::alloc_cpu(bytes);
    return {place, place, &release, cpu};
  }
  at::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  TensorMemory memory() {
    const std::lock_guard lock(mutex_);
    if (pieces_ == nullptr) return {};
    return {static_cast<int64_t>(pieces_->used()), static_cast<int64_t>(peak_),
            static_cast<int64_t>(pieces_->reached())};
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = pieces_ == nullptr ? 0 : pieces_->used();
  }

 private:
  Region() {
    const int64_t memory = physical_memory();
    rlimit space{};
    // Address space that is limited is left to those who need it.
    if (memory == 0 || getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur != RLIM_INFINITY) return;
    bytes_ = 2 * static_cast<size_t>(memory);
    void* const place =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) return;
    madvise(place, bytes_, MADV_HUGEPAGE);
    begin_ = static_cast<char*>(place);
    const size_t small = bytes_ / 16 / 4096 * 4096;
    pieces_ = new Pieces(begin_, bytes_ - small);
    blocks_ = std::make_unique<SmallBlocks>(begin_ + bytes_ - small, small);
  }
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    char* const place = pieces_->take(bytes);
    peak_ = std::max(peak_, pieces_->used());
    return place;
  }
  void* take_small(size_t bytes) {
    const std::lock_guard lock(small_mutex_);
    return blocks_->take(bytes);
  }
  static void release(void* place) {
    Region& region = instance();
    char* const piece = static_cast<char*>(place);
    if (piece < region.begin_ || piece >= region.begin_ + region.bytes_) return c10::free_cpu(place);
    if (region.blocks_->owns(piece)) {
      const std::lock_guard lock(region.small_mutex_);
      return region.blocks_->give_back(piece);
    }
    const std::lock_guard lock(region.mutex_);
    region.pieces_->give_back(piece);
  }

  std::mutex mutex_, small_mutex_;
  char* begin_ = nullptr;
  size_t bytes_ = 0, peak_ = 0;
  Pieces* pieces_ = nullptr;
  std::unique_ptr<SmallBlocks> blocks_;
};

}  // namespace

void keep_tensor_memory() {
  static const bool once = [] {
    if (!Region::instance().usable()) return false;
    c10::SetCPUAllocator(&Region::instance(), 1);
#if defined(__GLIBC__)
    // What is not a tensor but as large (a library's scratch memory) keeps its pages too; the C library takes
    // no threshold above 32 MiB.
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
    return true;
  }();
  static_cast<void>(once);
}

int64_t physical_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? int64_t{pages} * page : 0;
}

TensorMemory tensor_memory() { return Region::instance().memory(); }
void reset_tensor_peak() { Region::instance().reset_peak(); }

}  // namespace graft::ops
