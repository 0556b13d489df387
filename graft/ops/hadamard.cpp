#include "graft/ops/hadamard.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <memory>

#include "graft/base/error.h"
#include "graft/ops/hadamard_blocks.h"

#define GRAFT_HADAMARD_NAMESPACE hadamard_of_any
#include "graft/ops/hadamard_kernel.h"

namespace graft::ops {

const HadamardBlocks<float> kHadamardFloat = {"portable",
                                              hadamard_of_any::Kernel<hadamard_of_any::Float<16>>::block,
                                              hadamard_of_any::Kernel<hadamard_of_any::Float<16>>::columns};
const HadamardBlocks<double> kHadamardDouble = {
    "portable", hadamard_of_any::Kernel<hadamard_of_any::Double<16>>::block,
    hadamard_of_any::Kernel<hadamard_of_any::Double<16>>::columns};

namespace {

// What one core works on at a time: 512 KiB, half of a second-level cache.
constexpr int64_t kBlockBytes = int64_t{1} << 19;
template <class T>
constexpr int kBlockBits = sizeof(T) == 4 ? 17 : 16;

template <class T>
const HadamardBlocks<T>& blocks_here() {
  if constexpr (sizeof(T) == 8) {
    return kHadamardDouble;
  } else {
    static const HadamardBlocks<float>& fast = hadamard_avx512() ? *hadamard_avx512()
                                               : hadamard_avx2() ? *hadamard_avx2()
                                                                 : kHadamardFloat;
    return fast;
  }
}

/// Levels kBlockBits … bits - 1, tile by tile of columns.
template <class T>
void upper_levels(T* data, int64_t rows, int bits, const HadamardBlocks<T>& blocks) {
  const int row_bits = bits - kBlockBits<T>;
  const int64_t stride = int64_t{1} << kBlockBits<T>;
  const int64_t width =
      std::clamp<int64_t>(kBlockBytes / static_cast<int64_t>(sizeof(T)) >> row_bits, 32, 1024);
  const int64_t tiles = stride / width;
  at::parallel_for(0, rows * tiles, 1, [&](int64_t begin, int64_t end) {
    const auto size = static_cast<size_t>((width + kColumnPadding) << row_bits);
    const std::unique_ptr<T[]> buffer(new T[size]);
    for (int64_t i = begin; i < end; ++i) {
      T* const tile = data + ((i / tiles) << bits) + i % tiles * width;
      blocks.columns(tile, row_bits, stride, width, buffer.get());
    }
  });
}

template <class T, class Fill>
void transform(T* data, int64_t rows, int bits, const HadamardBlocks<T>& blocks, const Fill& fill) {
  const int low = std::min(bits, kBlockBits<T>);
  const int64_t size = int64_t{1} << low, count = rows << (bits - low);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 14) >> low);
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      fill(i * size, (i + 1) * size);
      blocks.block(data + i * size, low);
    }
  });
  if (bits > low) upper_levels(data, rows, bits, blocks);
}

template <class T>
void transform(T* data, int64_t rows, int bits) {
  transform(data, rows, bits, blocks_here<T>(), [](int64_t, int64_t) {});
}

int checked_bits(const Tensor& x) {
  const int64_t n = x.dim() > 0 ? x.size(-1) : 0;
  if (n < 1 || !std::has_single_bit(static_cast<uint64_t>(n)) || n > int64_t{1} << kHadamardMaxBits) {
    throw InternalError("hadamard", "rows of {} values, expected a power of two up to 2^{}", n,
                        kHadamardMaxBits);
  }
  return std::countr_zero(static_cast<uint64_t>(n));
}

}  // namespace

void hadamard_(Tensor& x) {
  const int bits = checked_bits(x);
  const bool known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble;
  if (!known || !x.is_contiguous() || !x.device().is_cpu())
    throw InternalError("hadamard", "a tensor of type {}, expected contiguous float32 or float64 on the CPU",
                        c10::toString(x.scalar_type()));
  const int64_t rows = x.numel() >> bits;
  if (x.scalar_type() == at::kFloat) {
    transform(x.mutable_data_ptr<float>(), rows, bits);
  } else {
    transform(x.mutable_data_ptr<double>(), rows, bits);
  }
}

void hadamard(float* data, int bits) { transform(data, 1, bits); }

void hadamard(float* data, int bits, const std::function<void(int64_t, int64_t)>& fill) {
  transform(data, 1, bits, blocks_here<float>(), fill);
}

Tensor hadamard_plain(const Tensor& x) {
  const int bits = checked_bits(x);
  const int64_t n = int64_t{1} << bits;
  Tensor y = x.contiguous();
  for (int64_t h = 1; h < n; h *= 2) {
    const Tensor pairs = y.view({-1, 2, h});
    const Tensor a = pairs.select(1, 0), b = pairs.select(1, 1);
    y = at::stack({a + b, a - b}, 1);
  }
  return y.view(x.sizes());
}

const char* hadamard_instruction_set() { return blocks_here<float>().name; }

int hadamard_passes(int bits) { return bits <= kBlockBits<float> ? 1 : 2; }

}  // namespace graft::ops
