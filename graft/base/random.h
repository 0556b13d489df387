// Named random streams of one seed: every draw in the program comes from one, so that equal seeds give equal
// runs.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace graft {

/// Philox 4x32-10 counter generator (Salmon et al. 2011). A stream is (seed, name), the
/// key and the upper half of the counter; its state is one counter, so that saving
/// and resuming it is one number. Draws are the same on every machine.
class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view name);
  uint32_t next_u32();
  uint64_t next_u64();
  /// In [0, 1), 53 bits.
  double uniform();
  double normal();
  /// In [0, bound). bound > 0.
  uint64_t below(uint64_t bound);
  /// How many 32-bit words were drawn.
  uint64_t position() const { return position_; }
  void seek(uint64_t position);
  /// A key for counter-based kernels (dropout): a fresh one at every call.
  uint64_t next_key() { return next_u64(); }

 private:
  void fill_block();
  std::array<uint32_t, 2> key_, name_;
  std::array<uint32_t, 4> block_{};
  uint64_t position_ = 0;
};

/// One Philox block: what kernels use directly, with the element's index as the counter.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace graft
