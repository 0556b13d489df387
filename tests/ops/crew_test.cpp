#include "graft/ops/crew.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <stdexcept>

#include "graft/base/random.h"
#include "graft/ops/frozen_linear.h"
#include "graft/ops/int8_linear.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

using ops::Crew;

TEST(Crew, RunsEveryPieceOnceInPassesOfAnyLength) {
  Crew crew;
  const int64_t threads = at::get_num_threads();
  RandomStream random(5, "crew");
  const std::vector<float> weights(1 << 16);
  for (int pass = 0; pass < 60; ++pass) {
    const uint64_t works = random.below(12);
    crew.run([&] {
      EXPECT_EQ(Crew::current(), &crew);
      for (uint64_t work = 0; work < works; ++work) {
        const auto pieces = static_cast<int64_t>(random.below(40));
        const auto together = static_cast<int64_t>(1 + random.below(5));
        std::vector<std::atomic<int>> runs(static_cast<size_t>(pieces));
        std::vector<ops::ReadRange> reads;
        if (random.below(2) == 0) reads = {{weights.data(), 1024, pieces}};
        crew.share(pieces, together, reads, [&](int64_t first, int64_t last, int64_t member) {
          EXPECT_LT(first, last);
          EXPECT_LE(last - first, together);
          EXPECT_LT(member, threads);
          for (int64_t i = first; i < last; ++i) ++runs[static_cast<size_t>(i)];
        });
        for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
      }
    });
    EXPECT_EQ(Crew::current(), nullptr);
  }
}

TEST(Crew, HandsOnWhatIsThrown) {
  Crew crew;
  EXPECT_THROW(crew.run([] { throw std::runtime_error("the pass"); }), std::runtime_error);
  EXPECT_THROW(crew.run([&] {
    crew.share(16, 1, {}, [](int64_t first, int64_t, int64_t) {
      if (first == 11) throw std::invalid_argument("a piece");
    });
  }),
               std::invalid_argument);
  std::atomic<int64_t> sum{0};
  crew.run([&] { crew.share(100, 2, {}, [&](int64_t a, int64_t b, int64_t) { sum += b - a; }); });
  EXPECT_EQ(sum, 100);
}

/// A product in a crew is the product, to the last bit: a sequence's answer does not depend on its company.
TEST(Crew, ProductsAreTheSame) {
  each_form([](at::ScalarType type) {
    for (const int64_t rows : {1, 2, 3, 16}) {
      for (const int64_t columns : {8, 64, 128, 200, 640, 1024 + 72}) {
        const Tensor x = normal({rows, 96}, 1).to(type), w = normal({columns, 96}, 2).to(type),
                     bias = normal({columns}, 3).to(type);
        ops::PackedWeight packed;
        ops::PackedInt8 small;
        const Tensor alone = ops::frozen_linear(x, w, bias, packed),
                     bytes = ops::int8_linear(x, w, bias, small);
        Crew crew;
        for (int pass = 0; pass < 2; ++pass) {
          crew.run([&] {
            EXPECT_TRUE(at::equal(ops::frozen_linear(x, w, bias, packed), alone)) << rows << "×" << columns;
            EXPECT_TRUE(at::equal(ops::int8_linear(x, w, bias, small), bytes)) << rows << "×" << columns;
          });
        }
      }
    }
  });
}

}  // namespace
}  // namespace graft::test
