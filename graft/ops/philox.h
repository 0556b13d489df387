// Philox words for kernels: the same function as base's, inline, so that loops over elements vectorise.
#pragma once
#include <array>
#include <cstdint>

namespace graft::ops {

struct PhiloxKey {
  uint32_t low, high;
  explicit PhiloxKey(uint64_t key)
      : low(static_cast<uint32_t>(key)), high(static_cast<uint32_t>(key >> 32)) {}
};

/// Four words for one counter (Salmon et al. 2011, 10 rounds).
inline std::array<uint32_t, 4> philox_block(std::array<uint32_t, 4> c, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key.low, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ key.high, static_cast<uint32_t>(a)};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return c;
}

/// The word of element i in row (b, c): element 64 g + 16 w + l is word w of counter (16 g + l, b, c, 0), so
/// that sixteen lanes hold sixteen neighbours.
inline uint32_t philox_word(uint64_t i, uint32_t b, uint32_t c, PhiloxKey key) {
  const uint64_t counter = i / 64 * 16 + i % 16;
  return philox_block({static_cast<uint32_t>(counter), b, c, 0}, key)[static_cast<size_t>(i % 64 / 16)];
}

/// The word of element i of a whole tensor: as above, with the counter's high half in b.
inline uint32_t philox_word(uint64_t i, PhiloxKey key) {
  return philox_word(i, static_cast<uint32_t>((i / 64 * 16) >> 32), 0, key);
}

/// A word below this is dropped: probability p, exact to 2^-32.
inline uint32_t drop_threshold(double p) {
  return p >= 1.0 ? 0xFFFFFFFFu : static_cast<uint32_t>(p * 4294967296.0);
}

}  // namespace graft::ops
