#include "graft/base/random.h"

#include <cmath>
#include <numbers>

namespace graft {
namespace {

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

uint32_t low(uint64_t word) { return static_cast<uint32_t>(word); }
uint32_t high(uint64_t word) { return static_cast<uint32_t>(word >> 32); }

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xd2511f53u} * counter[0];
    const uint64_t second = uint64_t{0xcd9e8d57u} * counter[2];
    counter = {high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1],
               low(first)};
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return counter;
}

RandomStream::RandomStream(uint64_t seed, std::string_view name)
    : key_{low(seed), high(seed)}, name_{low(fnv1a(name)), high(fnv1a(name))} {}

uint32_t RandomStream::next_u32() {
  if (position_ % 4 == 0) fill_block();
  return block_[position_++ % 4];
}

uint64_t RandomStream::next_u64() {
  const uint64_t first = next_u32();
  return first | uint64_t{next_u32()} << 32;
}

double RandomStream::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

double RandomStream::normal() {
  // Box–Muller; the second value is not kept, so that the position is the whole state.
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

uint64_t RandomStream::below(uint64_t bound) {
  // The lowest 2^64 mod bound words are drawn again: every result is equally likely.
  const uint64_t reject = (0 - bound) % bound;
  uint64_t word = next_u64();
  while (word < reject) word = next_u64();
  return word % bound;
}

void RandomStream::seek(uint64_t position) {
  position_ = position;
  if (position_ % 4 != 0) fill_block();
}

void RandomStream::fill_block() {
  const uint64_t index = position_ / 4;
  block_ = philox({low(index), high(index), name_[0], name_[1]}, key_);
}

}  // namespace graft
