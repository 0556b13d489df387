#include "graft/ops/small_blocks.h"

#include <bit>
#include <new>

namespace graft::ops {
namespace {

constexpr size_t kUnit = 64;

/// Sizes are 1, 2, 3, 4, 6, 8, 12, … units.
size_t bytes_of(size_t size) {
  if (size == 0) return kUnit;
  const size_t power = kUnit << ((size + 1) / 2);
  return size % 2 == 1 ? power : power + power / 2;
}

size_t size_for(size_t bytes) {
  const size_t units = (bytes + kUnit - 1) / kUnit;
  if (units <= 1) return 0;
  const size_t power = std::bit_width(units - 1);  // 2^(power - 1) < units <= 2^power
  return 2 * units <= 3 * (size_t{1} << (power - 1)) ? 2 * power - 2 : 2 * power - 1;
}

}  // namespace

SmallBlocks::SmallBlocks(char* begin, size_t bytes)
    : begin_(begin), end_(begin + bytes / kStretch * kStretch), unused_(begin) {
  size_of_.reserve(bytes / kStretch);
}

char* SmallBlocks::take(size_t bytes) {
  const size_t size = size_for(bytes);
  if (free_[size] == nullptr && !carve(size)) return nullptr;
  Free* const block = free_[size];
  free_[size] = block->next;
  return reinterpret_cast<char*>(block);
}

void SmallBlocks::give_back(char* block) {
  const size_t size = size_of_[static_cast<size_t>(block - begin_) / kStretch];
  free_[size] = new (block) Free{free_[size]};
}

bool SmallBlocks::carve(size_t size) {
  if (unused_ == end_) return false;
  size_of_.push_back(static_cast<uint8_t>(size));
  const size_t bytes = bytes_of(size);
  for (size_t at = kStretch / bytes * bytes; at > 0; at -= bytes)
    free_[size] = new (unused_ + at - bytes) Free{free_[size]};
  unused_ += kStretch;
  return true;
}

}  // namespace graft::ops
