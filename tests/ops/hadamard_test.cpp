#include "graft/ops/hadamard.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <bit>
#include <memory>

#include "graft/base/error.h"
#include "graft/ops/hadamard_blocks.h"

namespace graft::ops {
namespace {

/// H[i, j] = (-1)^(number of ones that i and j share): Sylvester's matrix by its definition.
Tensor dense(int64_t n, at::ScalarType type) {
  Tensor h = at::empty({n, n}, type);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double sign = std::popcount(static_cast<uint64_t>(i & j)) % 2 ? -1 : 1;
      if (type == at::kFloat) {
        h.mutable_data_ptr<float>()[i * n + j] = static_cast<float>(sign);
      } else {
        h.mutable_data_ptr<double>()[i * n + j] = sign;
      }
    }
  }
  return h;
}

Tensor transformed(const Tensor& x) {
  Tensor y = x.clone();
  hadamard_(y);
  return y;
}

TEST(Hadamard, WorkedExample) {
  const Tensor x = at::tensor({1.f, 2.f, 3.f, 4.f});
  EXPECT_TRUE(at::equal(transformed(x), at::tensor({10.f, -2.f, -4.f, 0.f})));
}

TEST(Hadamard, EqualsTheDenseMatrix) {
  at::manual_seed(1);
  for (int bits = 0; bits <= 12; ++bits) {
    const int64_t n = int64_t{1} << bits;
    // Small whole numbers: every sum is exact, so the tolerance is 0.
    const Tensor x = at::randint(-8, 9, {3, n}, at::kFloat);
    EXPECT_TRUE(at::equal(transformed(x), at::matmul(x, dense(n, at::kFloat)))) << "2^" << bits;
    const Tensor wide = x.to(at::kDouble);
    EXPECT_TRUE(at::equal(transformed(wide), at::matmul(wide, dense(n, at::kDouble)))) << "2^" << bits;
  }
}

TEST(Hadamard, GivesThePlainFormsBits) {
  at::manual_seed(2);
  for (int bits = 0; bits <= 23; ++bits) {
    const int64_t rows = bits < 20 ? 3 : 1;
    const Tensor x = at::randn({rows, int64_t{1} << bits});
    EXPECT_TRUE(at::equal(transformed(x), hadamard_plain(x))) << "2^" << bits;
  }
}

TEST(Hadamard, IsItsOwnInverse) {
  at::manual_seed(3);
  for (const int bits : {0, 3, 9, 16, 17, 18, 20, 21, 24}) {
    const int64_t n = int64_t{1} << bits;
    const Tensor x = at::randint(-1, 2, {n}, at::kFloat);
    Tensor y = transformed(transformed(x)).div_(static_cast<double>(n));
    // Sums of whole numbers up to 2^24 are exact in float32.
    EXPECT_TRUE(at::equal(y, x)) << "2^" << bits;
  }
}

TEST(Hadamard, Float32StaysNearFloat64) {
  at::manual_seed(4);
  const Tensor x = at::randn({int64_t{1} << 22});
  const Tensor exact = transformed(x.to(at::kDouble));
  const double error = (transformed(x).to(at::kDouble) - exact).abs().max().item<double>();
  // 22 roundings of values of size 2^11, each half a unit in the last place, added like a random walk: below
  // 1e-2.
  EXPECT_LT(error, 1e-2);
  EXPECT_GT(exact.abs().max().item<double>(), 1e3);
}

TEST(Hadamard, EveryWidthOfVectorGivesTheSameBits) {
  at::manual_seed(5);
  int forms = 0;
  for (const HadamardBlocks<float>* fast : {hadamard_avx2(), hadamard_avx512()}) {
    if (!fast) continue;
    ++forms;
    for (const int bits : {3, 5, 6, 8, 11, 13, 17}) {
      const Tensor x = at::randn({int64_t{1} << bits});
      Tensor a = x.clone(), b = x.clone();
      fast->block(a.mutable_data_ptr<float>(), bits);
      kHadamardFloat.block(b.mutable_data_ptr<float>(), bits);
      EXPECT_TRUE(at::equal(a, b)) << fast->name << " 2^" << bits;
    }
  }
  if (!forms) GTEST_SKIP() << "this processor has neither AVX2 nor AVX-512";
}

TEST(Hadamard, ColumnsAreTransformsOfTheTransposed) {
  at::manual_seed(6);
  for (int bits = 1; bits <= 12; ++bits) {
    const int64_t rows = int64_t{1} << bits, stride = 96, width = 32;
    const Tensor x = at::randn({rows, stride});
    const Tensor expected = x.clone();
    expected.narrow(1, 0, width).copy_(hadamard_plain(x.narrow(1, 0, width).t().contiguous()).t());
    const std::unique_ptr<float[]> buffer(new float[static_cast<size_t>(rows * (width + kColumnPadding))]);
    for (const HadamardBlocks<float>* blocks : {&kHadamardFloat, hadamard_avx2(), hadamard_avx512()}) {
      if (!blocks) continue;
      const Tensor y = x.clone();
      blocks->columns(y.mutable_data_ptr<float>(), bits, stride, width, buffer.get());
      EXPECT_TRUE(at::equal(y, expected)) << "2^" << bits;
    }
  }
}

TEST(Hadamard, OneAndTwoThreadsGiveTheSameBits) {
  at::manual_seed(7);
  const int threads = at::get_num_threads();
  for (const int bits : {10, 17, 19, 22}) {
    const Tensor x = at::randn({2, int64_t{1} << bits});
    at::set_num_threads(1);
    const Tensor one = transformed(x);
    at::set_num_threads(2);
    const Tensor two = transformed(x);
    EXPECT_TRUE(at::equal(one, two)) << "2^" << bits;
  }
  at::set_num_threads(threads);
}

TEST(Hadamard, RefusesWhatItCannotTransform) {
  Tensor odd = at::zeros({2, 6});
  EXPECT_THROW(hadamard_(odd), InternalError);
  Tensor scalar = at::zeros({});
  EXPECT_THROW(hadamard_(scalar), InternalError);
  Tensor empty = at::zeros({3, 0});
  EXPECT_THROW(hadamard_(empty), InternalError);
  Tensor whole = at::zeros({4}, at::kLong);
  EXPECT_THROW(hadamard_(whole), InternalError);
  Tensor strided = at::zeros({4, 8}).t();
  EXPECT_THROW(hadamard_(strided), InternalError);
  EXPECT_THROW(hadamard_plain(at::zeros({6})), InternalError);
}

}  // namespace
}  // namespace graft::ops
