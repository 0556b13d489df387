#include "graft/ops/low_rank.h"

#include <ATen/Parallel.h>

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

struct Case {
  int64_t rows, in, out, r;
};
const std::vector<Case> kCases = {{1, 16, 16, 1},    {5, 24, 70, 8},   {67, 64, 96, 8}, {3, 13, 7, 2},
                                  {130, 32, 50, 17}, {9, 200, 64, 64}, {0, 8, 8, 2}};

std::vector<Tensor> inputs(const Case& c) {
  return {normal({c.rows, c.out}, 1), normal({c.rows, c.in}, 2),
          normal({c.r, c.in}, 3) / std::sqrt(static_cast<double>(c.in)),
          normal({c.out, c.r}, 4) / std::sqrt(static_cast<double>(c.r))};
}

Tensor fast(const std::vector<Tensor>& v) { return ops::low_rank_add(v[0], v[1], v[2], v[3], 1.7); }
Tensor plain(const std::vector<Tensor>& v) { return ops::low_rank_add_plain(v[0], v[1], v[2], v[3], 1.7); }

TEST(LowRank, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : kCases) {
      expect_fast(fast, plain, inputs(c), {type, type, at::kFloat, at::kFloat},
                  fmt::format("{}×{}→{}, r {}", c.rows, c.in, c.out, c.r));
    }
  });
}

TEST(LowRank, PlainGradientsEqualDifferences) {
  for (const Case& c : kCases) {
    if (c.rows < 60) expect_gradients(plain, inputs(c), fmt::format("r {}", c.r));
  }
}

TEST(LowRank, ThreadsChangeNothing) {
  std::vector<Tensor> x;
  for (const Tensor& t : inputs({300, 256, 192, 8})) x.push_back(t.to(at::kFloat));
  const std::vector<at::ScalarType> types(4, at::kFloat);
  const int before = at::get_num_threads();
  const Evaluation first = evaluate(fast, x, types);
  at::set_num_threads(before == 1 ? 2 : 1);
  const Evaluation second = evaluate(fast, x, types);
  at::set_num_threads(before);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(at::equal(first.gradients[i], second.gradients[i])) << i;
}

TEST(LowRank, SaysWhatIsWrong) {
  EXPECT_THROW(
      ops::low_rank_add(at::zeros({2, 3}), at::zeros({2, 4}), at::zeros({1, 5}), at::zeros({3, 1}), 1),
      InternalError);
}

}  // namespace
}  // namespace graft::test
