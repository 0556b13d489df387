#include "graft/ops/kernels.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "graft/ops/philox.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

using ops::Half;

/// Room for n values right before a page that may not be touched.
template <class T>
class BeforeTheEdge {
 public:
  explicit BeforeTheEdge(int64_t n) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    start_ = mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start_ == MAP_FAILED) throw std::bad_alloc();
    mprotect(static_cast<char*>(start_) + page_, page_, PROT_NONE);
    values_ = reinterpret_cast<T*>(static_cast<char*>(start_) + page_) - n;
  }
  BeforeTheEdge(const BeforeTheEdge&) = delete;
  BeforeTheEdge& operator=(const BeforeTheEdge&) = delete;
  ~BeforeTheEdge() { munmap(start_, 2 * page_); }
  T* get() { return values_; }

 private:
  size_t page_;
  void* start_;
  T* values_;
};

template <class T>
void expect_inside() {
  for (int64_t n = 1; n <= 67; ++n) {
    BeforeTheEdge<T> x(n), y(n);
    for (int64_t i = 0; i < n; ++i) x.get()[i] = static_cast<T>(static_cast<float>(i % 5 - 2));
    ops::kernels<T>().activate(ops::Activation::relu, n, x.get(), nullptr, y.get());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(static_cast<float>(y.get()[i]), static_cast<float>(std::max<int64_t>(0, i % 5 - 2)))
          << ops::isa() << ", " << i << " of " << n;
    }
    EXPECT_EQ(ops::kernels<T>().highest(x.get(), n), static_cast<float>(std::min<int64_t>(n, 5) - 3));
  }
}

TEST(Kernels, StayInsideTheirRows) {
  for (const std::string& isa : runnable_isas()) {
    ops::choose_isa(isa);
    expect_inside<float>();
    expect_inside<Half>();
  }
  ops::choose_isa(runnable_isas().front());
}

TEST(Kernels, RoundToTheNearestBfloat16) {
  // Every bfloat16, times a factor that leaves ties, values on both sides of them, and infinities.
  std::vector<Half> x(65536), y(65536);
  for (size_t i = 0; i < x.size(); ++i) x[i] = Half(static_cast<uint16_t>(i), Half::from_bits());
  for (const std::string& isa : runnable_isas()) {
    ops::choose_isa(isa);
    for (const float factor : {1.0f, 1.00390625f, 1.5f}) {
      ops::kernels<Half>().drop({0, 65536, 1, 0, factor}, x.data(), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const float exact = static_cast<float>(x[i]) * factor;
        // The dot product units take subnormal values for zeros.
        if (std::fpclassify(exact) == FP_SUBNORMAL) continue;
        if (std::isnan(exact)) {
          ASSERT_TRUE(std::isnan(static_cast<float>(y[i]))) << isa << ", " << i;
        } else {
          ASSERT_EQ(y[i].x, Half(exact).x) << isa << ", " << i;
        }
      }
    }
  }
  ops::choose_isa(runnable_isas().front());
}

TEST(Kernels, DropTheSameElements) {
  const int64_t n = 5000;
  const std::vector<float> x(static_cast<size_t>(n), 1.0f);
  const uint32_t below = ops::drop_threshold(0.3);
  for (const std::string& isa : runnable_isas()) {
    ops::choose_isa(isa);
    std::vector<float> y(x.size());
    ops::kernels<float>().drop({0, n, 0x123456789ABCDEFull, below, 2.0f}, x.data(), y.data());
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t word = ops::philox_word(static_cast<uint64_t>(i), ops::PhiloxKey(0x123456789ABCDEFull));
      ASSERT_EQ(y[static_cast<size_t>(i)], word < below ? 0.0f : 2.0f) << isa << ", " << i;
    }
  }
  ops::choose_isa(runnable_isas().front());
}

}  // namespace
}  // namespace graft::test
