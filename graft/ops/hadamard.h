// The fast Walsh-Hadamard transform: what intrinsic dimension's random maps are made of.
// Every form works through the levels in ascending order of stride, so that all give the same bits.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace graft::ops {

using at::Tensor;

/// The largest transform, as a power of two.
inline constexpr int kHadamardMaxBits = 28;

/// Each row of x [..., 2^k] becomes H·row in place, H the unnormalised Walsh-Hadamard matrix in Sylvester's
/// order (H·H = 2^k). float32 or float64, contiguous, k ≤ 28; the same bits on any number of threads.
void hadamard_(Tensor& x);
/// The same as a new tensor, in ATen operations, on any device.
Tensor hadamard_plain(const Tensor& x);

/// As hadamard_, of the 2^bits floats at `data`.
void hadamard(float* data, int bits);
/// As above of values that fill(begin, end) writes, piece by piece, each just before it is transformed and
/// while it is in cache. Pieces are filled on several threads, cut at nothing but multiples of 2^17.
void hadamard(float* data, int bits, const std::function<void(int64_t begin, int64_t end)>& fill);

/// How often a transform of 2^bits values reads and writes its data as a whole: each of its passes keeps to
/// blocks that stay in a core's second-level cache.
int hadamard_passes(int bits);
/// What this processor's transforms of float32 are made of: "AVX-512", "AVX2" or "portable".
const char* hadamard_instruction_set();

}  // namespace graft::ops
