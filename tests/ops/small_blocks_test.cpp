#include "graft/ops/small_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "graft/base/random.h"

namespace graft::ops {
namespace {

struct Range {
  std::vector<char> bytes;
  explicit Range(size_t count) : bytes(count + 64) {}
  char* begin() {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) / 64 * 64);
  }
};

TEST(SmallBlocks, AreDisjointAndAligned) {
  constexpr size_t kBytes = 16 << 20;
  Range range(kBytes);
  SmallBlocks blocks(range.begin(), kBytes);
  RandomStream random(3, "blocks");
  std::vector<std::pair<char*, size_t>> taken;
  for (int i = 0; i < 20000; ++i) {
    if (!taken.empty() && random.below(5) < 2) {
      const size_t at = random.below(taken.size());
      const auto [place, bytes] = taken[at];
      ASSERT_EQ(std::count(place, place + bytes, static_cast<char>(bytes)), static_cast<int64_t>(bytes));
      blocks.give_back(place);
      taken[at] = taken.back();
      taken.pop_back();
      continue;
    }
    const size_t bytes = 1 + random.below(random.below(4) == 0 ? SmallBlocks::kLargest : 600);
    char* const place = blocks.take(bytes);
    if (place == nullptr) continue;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(place) % 64, 0U);
    ASSERT_TRUE(blocks.owns(place) && blocks.owns(place + bytes - 1));
    std::memset(place, static_cast<char>(bytes), bytes);
    taken.emplace_back(place, bytes);
  }
}

TEST(SmallBlocks, ComeBackForTheirSizeUntilTheRangeIsUsedUp) {
  constexpr size_t kBytes = 1 << 20;
  Range range(kBytes);
  SmallBlocks blocks(range.begin(), kBytes);
  for (size_t bytes = 1; bytes <= SmallBlocks::kLargest / 8; bytes = bytes * 5 / 4 + 1) {
    char* const place = blocks.take(bytes);
    if (place == nullptr) break;
    blocks.give_back(place);
    EXPECT_EQ(blocks.take(bytes), place) << bytes;
    blocks.give_back(place);
  }
  std::vector<char*> taken;
  for (char* place = blocks.take(64); place != nullptr; place = blocks.take(64)) taken.push_back(place);
  EXPECT_GT(taken.size(), 64U);
  EXPECT_EQ(blocks.take(64), nullptr);
  EXPECT_FALSE(blocks.owns(range.begin() + kBytes));
  blocks.give_back(taken.back());
  EXPECT_EQ(blocks.take(64), taken.back());
}

}  // namespace
}  // namespace graft::ops
