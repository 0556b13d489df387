#include "graft/ops/fastfood.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "graft/base/error.h"
#include "graft/ops/fastfood_blocks.h"
#include "graft/ops/hadamard.h"
#include "graft/ops/philox.h"

namespace graft::ops {
namespace {

std::array<uint32_t, 4> draw(const Fastfood& map, FastfoodDraw what, int64_t block) {
  return philox_block({static_cast<uint32_t>(block), 0, what, 0}, PhiloxKey(map.key));
}

/// Two normals of two words: the first word's upper 24 bits are the radius, its lowest two the quadrant, the
/// second word the angle in the quadrant.
void box_muller_pair(uint32_t radius_word, uint32_t angle_word, float* out) {
  using namespace box_muller;
  const float uniform = static_cast<float>((radius_word >> 8) + 1) * 0x1p-24f;  // (0, 1]
  const auto bits = std::bit_cast<uint32_t>(uniform) - 0x3f3504f3u;             // √½
  const auto exponent = static_cast<float>(static_cast<int32_t>(bits) >> 23);
  const auto mantissa = std::bit_cast<float>((bits & 0x7fffffu) + 0x3f3504f3u);
  const float s = (mantissa - 1.f) / (mantissa + 1.f), s2 = s * s;
  const float series = ((((kLog9 * s2 + kLog7) * s2 + kLog5) * s2 + kLog3) * s2 + 2.f) * s;
  const float radius = std::sqrt((exponent * kLn2 + series) * -2.f);
  const float t = static_cast<float>(static_cast<int32_t>(angle_word)) * kQuarterPiByWord, t2 = t * t;
  const float sine = ((((kSin9 * t2 + kSin7) * t2 + kSin5) * t2 + kSin3) * t2 + 1.f) * t;
  float cosine = ((((kCos10 * t2 + kCos8) * t2 + kCos6) * t2 + kCos4) * t2 + kCos2) * t2 + 1.f;
  if (radius_word & 2) cosine = -cosine;
  const bool swapped = radius_word & 1;
  out[0] = radius * (swapped ? sine : cosine);
  out[1] = radius * (swapped ? cosine : sine);
}

/// Calls use(j, G[j]) for begin ≤ j < end; begin is a multiple of 4.
template <class Use>
void each_normal(const Fastfood& map, int64_t begin, int64_t end, const Use& use) {
  for (int64_t i = begin; i < end; i += 4) {
    const auto words = draw(map, kDrawNormals, i / 4);
    float normals[4];
    box_muller_pair(words[0], words[1], normals);
    box_muller_pair(words[2], words[3], normals + 2);
    for (int64_t j = i; j < std::min(i + 4, end); ++j) use(j, normals[j - i]);
  }
}

void spread(const Fastfood& map, const Permutation& permutation, const float* table, uint32_t mask,
            int64_t begin, int64_t end, float* out) {
  each_normal(map, begin, end, [&](int64_t j, float normal) {
    out[j] = normal * table[permuted(permutation, static_cast<uint32_t>(j)) & mask];
  });
}

void collect(const Fastfood& map, const Permutation& permutation, const float* g, uint32_t mask,
             int64_t begin, int64_t end, float* table) {
  each_normal(map, begin, end, [&](int64_t j, float normal) {
    table[permuted(permutation, static_cast<uint32_t>(j)) & mask] += normal * g[j];
  });
}

void normals(const Fastfood& map, int64_t begin, int64_t end, float* out) {
  each_normal(map, begin, end, [&](int64_t j, float normal) { out[j] = normal; });
}

const FastfoodBlocks& blocks_here() {
  static const FastfoodBlocks& fast = fastfood_avx512() ? *fastfood_avx512()
                                      : fastfood_avx2() ? *fastfood_avx2()
                                                        : kFastfood;
  return fast;
}

int bits_for(int64_t d) { return static_cast<int>(std::bit_width(static_cast<uint64_t>(d - 1))); }

void check(const Fastfood& map, int64_t d) {
  if (map.bits < 0 || map.bits > kHadamardMaxBits || d < 1 || d > map.size()) {
    throw InternalError("fastfood", "{} values into 2^{}, expected 1 to 2^{} into at most 2^{}", d, map.bits,
                        map.bits, kHadamardMaxBits);
  }
}

void check_large(const Fastfood& map, const Tensor& values) {
  if (values.scalar_type() != at::kFloat || !values.is_contiguous() || values.numel() != map.size())
    throw InternalError("fastfood", "{} values, expected 2^{} contiguous ones of float32", values.numel(),
                        map.bits);
}

/// Stretches of the map that one thread works through; their number depends on nothing but the map.
struct Chunks {
  int64_t count, length;
};
Chunks chunks_of(const Fastfood& map, int table_bits) {
  // Each chunk has a table of its own when collecting: 2^24 values for all of them together.
  // No more than a quarter of the map's values either, but for four.
  const int64_t most = std::clamp<int64_t>(int64_t{1} << 24 >> table_bits, 4, 64);
  const int64_t least = std::clamp<int64_t>(map.size() >> 12, 1, 4);
  const int64_t count = std::clamp<int64_t>(map.size() >> std::max(12, table_bits + 2), least, most);
  return {count, map.size() / count};
}

}  // namespace

const FastfoodBlocks kFastfood = {spread, collect, normals};

Permutation permutation(const Fastfood& map) {
  Permutation out;
  out.mask = static_cast<uint32_t>(map.size() - 1);
  out.shift = (map.bits + 1) / 2;
  for (int round = 0; round < Permutation::kRounds; ++round) {
    const auto words = draw(map, kDrawPermutation, round);
    out.multiplier[round] = words[0] | 1;
    out.increment[round] = words[1];
  }
  return out;
}

uint32_t permuted(const Permutation& permutation, uint32_t index) {
  uint32_t x = index;
  for (int round = 0; round < Permutation::kRounds; ++round) {
    x = (x * permutation.multiplier[round] + permutation.increment[round]) & permutation.mask;
    x ^= x >> permutation.shift;
  }
  return x;
}

Tensor fastfood_signs(const Fastfood& map, int64_t count) {
  Tensor signs = at::empty({count}, at::kFloat);
  auto* const out = signs.mutable_data_ptr<float>();
  for (int64_t i = 0; i < count; i += 4) {
    const auto words = draw(map, kDrawSigns, i / 4);
    for (int64_t j = i; j < std::min(i + 4, count); ++j)
      out[j] = words[static_cast<size_t>(j - i)] & 1 ? 1.f : -1.f;
  }
  return signs;
}

Tensor fastfood_permutation(const Fastfood& map) {
  Tensor indices = at::empty({map.size()}, at::kLong);
  auto* const out = indices.mutable_data_ptr<int64_t>();
  const Permutation order = permutation(map);
  for (int64_t j = 0; j < map.size(); ++j) out[j] = permuted(order, static_cast<uint32_t>(j));
  return indices;
}

Tensor fastfood_normals(const Fastfood& map) {
  Tensor values = at::empty({map.size()}, at::kFloat);
  auto* const out = values.mutable_data_ptr<float>();
  const Chunks chunks = chunks_of(map, 0);
  at::parallel_for(0, chunks.count, 1, [&](int64_t begin, int64_t end) {
    blocks_here().normals(map, begin * chunks.length, end * chunks.length, out);
  });
  return values;
}

double fastfood_square_sum(const Fastfood& map) {
  check(map, 1);
  constexpr int64_t kLength = 1 << 12;
  const int64_t length = std::min(kLength, map.size()), count = map.size() / length;
  std::vector<double> sums(static_cast<size_t>(count));
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(length));
    for (int64_t i = begin; i < end; ++i) {
      // The place of index 0 lies before the buffer by as much as the stretch begins after it.
      blocks_here().normals(map, i * length, (i + 1) * length, values.data() - i * length);
      double sum = 0;
      for (const float value : values) sum += double{value} * double{value};
      sums[static_cast<size_t>(i)] = sum;
    }
  });
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

void fastfood(const Fastfood& map, const Tensor& x, Tensor& out) {
  check(map, x.numel());
  check_large(map, out);
  const int table_bits = bits_for(x.numel());
  Tensor table = at::zeros({int64_t{1} << table_bits}, at::kFloat);
  table.narrow(0, 0, x.numel()).copy_(x * fastfood_signs(map, x.numel()));
  hadamard_(table);
  const Permutation order = permutation(map);
  const auto mask = static_cast<uint32_t>(table.numel() - 1);
  const auto* const from = table.const_data_ptr<float>();
  auto* const to = out.mutable_data_ptr<float>();
  hadamard(to, map.bits,
           [&](int64_t begin, int64_t end) { blocks_here().spread(map, order, from, mask, begin, end, to); });
}

Tensor fastfood_transposed(const Fastfood& map, Tensor& g, int64_t d) {
  check(map, d);
  check_large(map, g);
  auto* const from = g.mutable_data_ptr<float>();
  hadamard(from, map.bits);
  const int table_bits = bits_for(d);
  const Permutation order = permutation(map);
  const Chunks chunks = chunks_of(map, table_bits);
  Tensor tables = at::zeros({chunks.count, int64_t{1} << table_bits}, at::kFloat);
  auto* const to = tables.mutable_data_ptr<float>();
  const auto mask = static_cast<uint32_t>(tables.size(1) - 1);
  at::parallel_for(0, chunks.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      blocks_here().collect(map, order, from, mask, i * chunks.length, (i + 1) * chunks.length,
                            to + (i << table_bits));
  });
  Tensor table = tables[0];
  for (int64_t i = 1; i < chunks.count; ++i) table.add_(tables[i]);
  hadamard_(table);
  return table.narrow(0, 0, d) * fastfood_signs(map, d);
}

Tensor fastfood_plain(const Fastfood& map, const Tensor& x) {
  check(map, x.numel());
  const Tensor signed_x = x * fastfood_signs(map, x.numel()).to(x.scalar_type());
  const Tensor padded = at::constant_pad_nd(signed_x, {0, map.size() - x.numel()});
  const Tensor mixed = hadamard_plain(padded).index_select(0, fastfood_permutation(map));
  return hadamard_plain(mixed * fastfood_normals(map).to(x.scalar_type()));
}

Tensor fastfood_transposed_plain(const Fastfood& map, const Tensor& g, int64_t d) {
  check(map, d);
  const Tensor scaled = hadamard_plain(g) * fastfood_normals(map).to(g.scalar_type());
  const Tensor unmixed = at::zeros_like(scaled).index_add(0, fastfood_permutation(map), scaled);
  return hadamard_plain(unmixed).narrow(0, 0, d) * fastfood_signs(map, d).to(g.scalar_type());
}

}  // namespace graft::ops
