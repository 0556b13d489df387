// Memory of small tensors: blocks of some sizes, those that came back given out again first.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace graft::ops {

/// A range of memory in stretches, each of blocks of one size. Blocks are never joined: what is given back is
/// for others of about its size. Not safe between threads.
class SmallBlocks {
 public:
  /// The largest block.
  static constexpr size_t kLargest = 64 << 10;

  /// `bytes` from `begin` on, which is at a multiple of 64 bytes.
  SmallBlocks(char* begin, size_t bytes);
  /// A block of at least `bytes`, at most kLargest, at a multiple of 64 bytes; nullptr where the range is
  /// used up.
  char* take(size_t bytes);
  /// What take gave.
  void give_back(char* block);
  bool owns(const char* place) const { return place >= begin_ && place < end_; }

 private:
  static constexpr size_t kStretch = 128 << 10, kSizes = 20;
  struct Free {
    Free* next;
  };
  bool carve(size_t size);

  char *begin_, *end_, *unused_;
  std::vector<uint8_t> size_of_;  // of each stretch's blocks, by its index
  std::array<Free*, kSizes> free_{};
};

}  // namespace graft::ops
