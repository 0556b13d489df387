#include "graft/ops/few_values.h"

#include "graft/ops/crew.h"

#include <limits>

#include "tests/ops/cases.h"

namespace graft::test {
namespace {

Tensor values(int64_t rows, at::ScalarType type) {
  Tensor x = normal({rows, 40}, static_cast<uint64_t>(rows)).to(at::kFloat) * 3;
  if (rows > 0) {
    float* const first = x.data_ptr<float>();
    first[0] = std::numeric_limits<float>::infinity();
    first[1] = std::numeric_limits<float>::quiet_NaN();
    first[2] = 1.00390625f;  // half way between two values of bfloat16
    first[3] = -0.0f;
  }
  return x.to(type);
}

bool same(const Tensor& x, const Tensor& y) {
  return x.scalar_type() == y.scalar_type() && at::allclose(x, y, 0, 0, true);
}

TEST(FewValues, AreAsLibtorchsToTheLastBit) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    for (const int64_t rows : {0, 1, 7, 1000}) {
      const Tensor x = values(rows, type), y = values(rows, type).flip({0, 1});
      EXPECT_TRUE(same(ops::sum(x, y), x + y)) << type << " " << rows;
      EXPECT_TRUE(same(ops::sum(x.t(), y.t()), (x + y).t())) << type << " " << rows;
      for (const auto other : {at::kFloat, at::kBFloat16, at::kDouble})
        EXPECT_TRUE(same(ops::to_type(x, other), x.to(other))) << type << " to " << other << " " << rows;
    }
  }
}

TEST(FewValues, AreTheSameInACrew) {
  ops::Crew crew;
  crew.run([] {
    for (const int64_t rows : {1, 1000}) {
      const Tensor x = values(rows, at::kBFloat16);
      EXPECT_TRUE(same(ops::to_type(x, at::kFloat), x.to(at::kFloat))) << rows;
      EXPECT_TRUE(same(ops::to_type(x.t(), at::kFloat), x.t().to(at::kFloat))) << rows;
    }
  });
}

TEST(FewValues, TakeOtherSizes) {
  const Tensor x = normal({4, 6}, 1).to(at::kFloat);
  EXPECT_TRUE(same(ops::shaped(x, {4, 2, 3}), x.view({4, 2, 3})));
  EXPECT_TRUE(same(ops::shaped(x.t(), {24}), x.t().reshape({24})));
  EXPECT_TRUE(same(ops::whole_numbers({3, -1, 7}), at::tensor({3, -1, 7}, at::kLong)));
  EXPECT_EQ(ops::whole_numbers({}).numel(), 0);
}

TEST(FewValues, HandGradientsOn) {
  const Tensor x = normal({2, 3}, 1).to(at::kFloat).requires_grad_();
  const Tensor y = normal({2, 3}, 2).to(at::kFloat);
  ops::to_type(ops::sum(x, y), at::kBFloat16).sum().backward();
  EXPECT_TRUE(same(x.grad(), at::ones({2, 3})));
  ops::shaped(x, {6}).sum().backward();
  EXPECT_TRUE(same(x.grad(), 2 * at::ones({2, 3})));
}

}  // namespace
}  // namespace graft::test
