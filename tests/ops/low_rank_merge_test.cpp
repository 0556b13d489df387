#include "graft/ops/low_rank_merge.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

struct Case {
  int64_t out, in, r;
};
// Rows and columns that fill no tile, more than one part of rows, ranks above a vector.
const std::vector<Case> kCases = {{1, 16, 1},      {7, 13, 2},   {70, 24, 8},
                                  {300, 1030, 17}, {9, 200, 64}, {0, 8, 2}};

constexpr double kScale = 1.5;

struct Inputs {
  Tensor weight, a, b, probes;
};
Inputs inputs(const Case& c, at::ScalarType type) {
  return {normal({c.out, c.in}, 1, type), normal({c.r, c.in}, 2, at::kFloat),
          normal({c.out, c.r}, 3, at::kFloat) / std::sqrt(static_cast<double>(c.r)),
          normal({2, c.in}, 4, at::kFloat)};
}

ops::MergedWeight fast(const Inputs& v, at::ScalarType type) {
  return ops::low_rank_merge(v.weight, {v.a, v.b, kScale}, v.probes, type);
}

/// Half a unit of the last place of each value, and what float32 sums of 64 products lose.
void expect_rounded_once(const Tensor& merged, const Tensor& exact, const std::string& what) {
  const double half_unit = merged.scalar_type() == at::kBFloat16 ? std::exp2(-8) : std::exp2(-24);
  const Tensor allowed = exact.abs() * half_unit * 1.001 + 2e-5;
  EXPECT_TRUE((merged.to(at::kDouble) - exact).abs().le(allowed).all().item<bool>()) << what;
}

TEST(LowRankMerge, EachFormRoundsOnceAndSeesWhatTheFactorsMake) {
  each_form([](at::ScalarType type) {
    for (const Case& c : kCases) {
      const std::string what = fmt::format("{}×{}, r {}, {}", c.out, c.in, c.r, ops::isa());
      const Inputs v = inputs(c, type);
      const Tensor exact =
          v.weight.to(at::kDouble) + kScale * at::matmul(v.b.to(at::kDouble), v.a.to(at::kDouble));
      for (const ops::MergedWeight& merged :
           {fast(v, type), ops::low_rank_merge_plain(v.weight, {v.a, v.b, kScale}, v.probes, type)}) {
        ASSERT_EQ(merged.weight.scalar_type(), type);
        ASSERT_EQ(merged.weight.sizes(), v.weight.sizes());
        expect_rounded_once(merged.weight, exact, what);
        EXPECT_LT(merged.difference, 1e-4 * std::sqrt(static_cast<double>(c.in))) << what;
      }
    }
  });
}

TEST(LowRankMerge, TakesTurnedWeightsAndOtherTypes) {
  const Inputs v = inputs({70, 24, 8}, at::kFloat);
  const Tensor whole = fast(v, at::kFloat).weight;
  Inputs turned = v;
  turned.weight = v.weight.t().contiguous().t();
  EXPECT_TRUE(fast(turned, at::kFloat).weight.equal(whole));
  Inputs half = v;
  half.weight = v.weight.to(at::kHalf);
  const ops::MergedWeight merged = fast(half, at::kHalf);
  EXPECT_EQ(merged.weight.scalar_type(), at::kHalf);
  EXPECT_LT((merged.weight.to(at::kFloat) - whole).abs().max().item<double>(), 0.02);
  Inputs wide = v;
  wide.weight = v.weight.to(at::kDouble);
  EXPECT_LT(fast(wide, at::kDouble).difference, 1e-12);
}

TEST(LowRankMerge, ThreadsChangeNothing) {
  const Inputs v = inputs({2000, 300, 8}, at::kFloat);
  const int before = at::get_num_threads();
  const Tensor first = fast(v, at::kFloat).weight;
  at::set_num_threads(before == 1 ? 2 : 1);
  const Tensor second = fast(v, at::kFloat).weight;
  at::set_num_threads(before);
  EXPECT_TRUE(first.equal(second));
}

TEST(LowRankMerge, AValueThatIsNotFiniteIsSeen) {
  each_form([](at::ScalarType type) {
    for (const double wrong : {std::nan(""), double{INFINITY}}) {
      for (const int64_t where : {0, 12, 690}) {
        Inputs v = inputs({70, 13, 2}, type);
        v.weight.view(-1)[where] = wrong;
        EXPECT_FALSE(std::isfinite(fast(v, type).difference))
            << wrong << " at " << where << " " << ops::isa();
      }
      Inputs v = inputs({70, 13, 2}, type);
      v.b[69][1] = wrong;
      EXPECT_FALSE(std::isfinite(fast(v, type).difference)) << wrong;
    }
  });
}

TEST(LowRankMerge, SaysWhatIsWrong) {
  EXPECT_THROW(ops::low_rank_merge(at::zeros({3, 4}), {at::zeros({1, 5}), at::zeros({3, 1})},
                                   at::zeros({2, 4}), at::kFloat),
               InternalError);
}

}  // namespace
}  // namespace graft::test
