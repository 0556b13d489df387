#include "graft/ops/tensor_memory.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/random.h"

namespace graft::ops {
namespace {

/// A range that nobody reads or writes.
char* somewhere() { return reinterpret_cast<char*>(uintptr_t{1} << 40); }

TEST(Pieces, AreDisjointAlignedAndComeBackWhole) {
  std::vector<char> range(1 << 20);
  char* const begin = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(range.data()) + 63) / 64 * 64);
  Pieces pieces(begin, (1 << 20) - 64);
  RandomStream random(3, "pieces");
  std::vector<std::pair<char*, size_t>> taken;
  for (int i = 0; i < 4000; ++i) {
    if (!taken.empty() && random.below(5) < 2) {
      const size_t at = random.below(taken.size());
      // What was written there is still there: no other piece lies over it.
      const auto [place, bytes] = taken[at];
      ASSERT_EQ(std::count(place, place + bytes, static_cast<char>(bytes)), static_cast<int64_t>(bytes));
      pieces.give_back(place);
      taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(at));
      continue;
    }
    const size_t bytes = 1 + random.below(9000);
    char* const place = pieces.take(bytes);
    if (place == nullptr) continue;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(place) % 64, 0U);
    std::memset(place, static_cast<char>(bytes), bytes);
    taken.emplace_back(place, bytes);
  }
  for (const auto& [place, bytes] : taken) pieces.give_back(place);
  EXPECT_EQ(pieces.used(), 0U);
  EXPECT_EQ(pieces.take((1 << 20) - 64), begin) << "the free pieces were not joined";
}

TEST(Pieces, StepsOfOtherSizesReachNoFurtherThanTheLargest) {
  Pieces pieces(somewhere(), size_t{1} << 40);
  RandomStream random(4, "steps");
  size_t largest = 0;
  for (int step = 0; step < 300; ++step) {
    const size_t rows = 800 + random.below(1000);
    std::vector<char*> kept, all;
    for (const size_t width : {384, 1536, 384, 1152, 384, 1536}) {
      char* const passing = pieces.take(rows * width * 4);
      kept.push_back(pieces.take(rows * width * 4));
      pieces.give_back(passing);
    }
    largest = std::max(largest, pieces.used() + rows * 1536 * 4);
    for (char* piece : kept) pieces.give_back(piece);
  }
  EXPECT_EQ(pieces.used(), 0U);
  // A passing piece may lie in the way of one that stays: half as much again is plenty for that.
  EXPECT_LT(pieces.reached(), largest * 3 / 2);
}

TEST(Pieces, UnknownOnesAreRefused) {
  Pieces pieces(somewhere(), 1 << 20);
  char* const piece = pieces.take(100);
  EXPECT_THROW(pieces.give_back(piece + 64), InternalError);
  pieces.give_back(piece);
  EXPECT_THROW(pieces.give_back(piece), InternalError);
  EXPECT_EQ(pieces.take(2 << 20), nullptr);
}

TEST(TensorMemory, CountsLargeTensors) {
  const at::Tensor before = at::ones({1 << 20});
  keep_tensor_memory();
  keep_tensor_memory();
  const int64_t start = tensor_memory().bytes;
  reset_tensor_peak();
  {
    const at::Tensor small = at::ones({16}), large = at::ones({1 << 20});
    EXPECT_EQ(tensor_memory().bytes - start, 4 << 20);
    EXPECT_EQ(large.sum().item<float>() + small.sum().item<float>(), (1 << 20) + 16);
  }
  EXPECT_EQ(tensor_memory().bytes, start);
  EXPECT_GE(tensor_memory().peak - start, 4 << 20);
  EXPECT_EQ(before.sum().item<float>(), 1 << 20);
}

}  // namespace
}  // namespace graft::ops
