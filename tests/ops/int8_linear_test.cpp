#include "graft/ops/int8_linear.h"

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

struct Case {
  const char* name;
  int64_t rows, in, out;
  bool bias;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"one row", 1, 16, 24, true},     {"odd sizes", 7, 13, 5, true},
      {"one output", 5, 8, 1, true},    {"many rows", 211, 64, 200, true},
      {"long sum", 33, 300, 70, false}, {"six and one", 7, 32, 65, true},
      {"one input", 3, 1, 40, false},   {"three vectors", 100, 66, 40, true},
      {"blocks", 20, 1100, 450, true},  {"one row, long", 1, 9000, 70, true},
  };
  return table;
}

/// Rows of sizes from tiny to large, one of zeros; in each fifth row a value far above the others, in one row
/// twelve of them, more than are kept apart.
Tensor rows_of(const Case& c) {
  Tensor x = normal({c.rows, c.in}, 1) * at::logspace(-3, 2, c.rows, 10.0, at::kDouble).unsqueeze(1);
  for (int64_t row = 0; row < c.rows; row += 5) x[row][row % c.in].mul_(100.0);
  if (c.rows > 4) x[2].zero_();
  if (c.rows > 6 && c.in > 200) x[3].slice(0, 40, 52).mul_(-30.0);
  return x;
}

Tensor fast(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  ops::PackedInt8 packed;
  return ops::int8_linear(x, weight, bias, packed);
}

Tensor product(const Tensor& x, const ops::Int8Weight& weight) {
  return ops::int8_products(x, {}, {{ops::int8_forward_panels(weight)}})[0];
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  const Tensor wide = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

/// Both forms in their rows' own sizes.
void expect_rows_close(const Tensor& actual, const Tensor& expected, double relative,
                       const std::string& what) {
  const Tensor wide = expected.to(at::kDouble);
  const Tensor size = wide.abs().amax(1, true).clamp_min(1e-6);
  const double error = ((actual.to(at::kDouble) - wide).abs() / size).max().item<double>();
  EXPECT_LE(error, relative) << what;
}

TEST(Int8Linear, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : cases()) {
      const Tensor weight = (normal({c.out, c.in}, 2) / std::sqrt(static_cast<double>(c.in))).to(type);
      const Tensor bias = c.bias ? normal({c.out}, 3).to(type) * 0.001 : Tensor();
      const Tensor x = rows_of(c).to(type);
      const auto run = [&](const Tensor& in, const auto& form) {
        const Tensor leaf = in.detach().clone().requires_grad_(true);
        const Tensor y =
            form(leaf, weight.to(in.scalar_type()), bias.defined() ? bias.to(in.scalar_type()) : bias);
        const Tensor d_y = rows_of({"", c.rows, c.out, 0, false}).to(type).to(in.scalar_type());
        return std::pair(y.detach(), torch::autograd::grad({y}, {leaf}, {d_y})[0]);
      };
      const auto [y, d_x] = run(x, fast);
      const auto [exact_y, exact_d_x] = run(x.to(at::kDouble), ops::int8_linear_plain);
      // A value half way between two steps may go either way: one step of 127, of one of the terms. In
      // bfloat16 the result's own rounding is added.
      const double step = 1.0 / 127 + (type == at::kBFloat16 ? 1.0 / 128 : 0.0);
      const std::string where = fmt::format("{}, {}, {}", c.name, at::toString(type), ops::isa());
      expect_rows_close(y, exact_y, step, where);
      expect_rows_close(d_x, exact_d_x, step, where + ", gradient");
      if (y.numel() > 1000) {
        // Such ties are rare: on the whole the forms agree far closer.
        EXPECT_LE(relative_error(y, exact_y), type == at::kBFloat16 ? 3e-3 : 1e-3) << where;
        EXPECT_LE(relative_error(d_x, exact_d_x), type == at::kBFloat16 ? 3e-3 : 1e-3) << where;
      }
    }
  });
}

TEST(Int8Linear, EveryProcessorSumsTheSame) {
  const Tensor x = rows_of({"", 120, 1100, 0, false}).to(at::kFloat),
               weight = normal({450, 1100}, 2, at::kFloat);
  const ops::Int8Weight rounded = ops::Int8Weight::of(weight);
  Tensor first;
  for (const std::string& isa : runnable_isas()) {
    ops::choose_isa(isa);
    const Tensor y = product(x, rounded);
    if (!first.defined()) first = y;
    // Whole sums are equal; what scales them may be fused or not: two roundings.
    expect_rows_close(y, first, 2.5e-7, isa);
    for (const int64_t rows : {1, 2, 5, 6, 13, 16, 40}) {
      const Tensor some = product(x.narrow(0, 3, rows), rounded);
      EXPECT_TRUE(at::equal(some, y.narrow(0, 3, rows))) << isa << ", " << rows;
    }
  }
  ops::choose_isa(runnable_isas().front());
}

TEST(Int8Linear, IsNearTheExactProduct) {
  const Tensor x = normal({64, 512}, 1, at::kFloat), weight = normal({96, 512}, 2, at::kFloat);
  const Tensor plain = at::linear(x, weight);
  // Steps of (largest ≈ 3.3 deviations) / 127, of both sides: √(2/12) · 3.3/127 ≈ 1.1 %.
  EXPECT_LE(relative_error(fast(x, weight, {}), plain), 0.015);
  EXPECT_GE(relative_error(fast(x, weight, {}), plain), 0.003);
}

TEST(Int8Linear, OutliersCostTheOthersNothing) {
  // Two columns a hundred times as large as the others; their own part is exact but for the weight's steps,
  // so what is left after it is the others' part.
  Tensor x = normal({64, 512}, 1, at::kFloat), weight = normal({96, 512}, 2, at::kFloat);
  weight.select(1, 7).zero_(), weight.select(1, 300).zero_();
  const Tensor plain = at::linear(x, weight);
  x.select(1, 7).mul_(100.0), x.select(1, 300).mul_(-100.0);
  EXPECT_LE(relative_error(fast(x, weight, {}), plain), 0.015);
}

TEST(Int8Linear, ARowDoesNotDependOnItsCompany) {
  ops::PackedInt8 packed;
  const Tensor x = normal({100, 64}, 1).to(at::kBFloat16), weight = normal({130, 64}, 2).to(at::kBFloat16);
  const Tensor whole = ops::int8_linear(x, weight, {}, packed);
  for (const int64_t row : {0, 41, 99}) {
    const Tensor alone = ops::int8_linear(x.narrow(0, row, 1), weight, {}, packed);
    EXPECT_TRUE(at::equal(alone, whole.narrow(0, row, 1))) << row;
  }
}

TEST(Int8Linear, MapsOfTheSameRowsAreEachAsAlone) {
  each_form([](at::ScalarType type) {
    for (const int64_t rows : {1, 5, 70}) {
      const Tensor x = normal({rows, 96}, 1).to(type).requires_grad_(true);
      std::vector<Tensor> weights, d_ys;
      std::vector<ops::PackedInt8> together(3), alone(3);
      std::vector<ops::Int8Linear> maps;
      for (uint64_t i = 0; i < 3; ++i) {
        const int64_t out = 64 + 70 * static_cast<int64_t>(i);
        weights.push_back(normal({out, 96}, 2 + i).to(type));
        d_ys.push_back(normal({rows, out}, 8 + i).to(type));
        maps.push_back({weights[i], i == 1 ? Tensor() : normal({out}, 5 + i).to(type), &together[i]});
      }
      const std::vector<Tensor> ys = ops::int8_linears(x, maps);
      Tensor d_x = at::zeros(x.sizes(), type);
      for (size_t i = 0; i < 3; ++i) {
        const Tensor y = ops::int8_linear(x, weights[i], maps[i].bias, alone[i]);
        EXPECT_TRUE(at::equal(ys[i], y)) << rows << ", " << i;
        d_x += torch::autograd::grad({y}, {x}, {d_ys[i]})[0];
      }
      EXPECT_TRUE(at::equal(torch::autograd::grad(ys, {x}, d_ys, true)[0], d_x)) << rows;
      // An output that nobody read.
      EXPECT_TRUE(at::equal(torch::autograd::grad({ys[1]}, {x}, {d_ys[1]})[0],
                            ops::int8_linear_gradient(d_ys[1], weights[1], alone[1])));
    }
  });
}

TEST(Int8Linear, ATrainedBiasIsAddedOnce) {
  each_form([](at::ScalarType type) {
    const Tensor weight = normal({20, 64}, 2).to(type), d_y = normal({5, 20}, 4).to(type);
    for (const bool to_input : {false, true}) {
      const Tensor x = normal({5, 64}, 1).to(type).requires_grad_(to_input);
      const Tensor bias = normal({20}, 3).to(type).requires_grad_(true);
      const Tensor y = fast(x, weight, bias);
      expect_close(y, fast(x, weight, {}) + bias, 1e-6, "output");
      expect_close(torch::autograd::grad({y}, {bias}, {d_y})[0], d_y.sum(0), 1e-6, "gradient");
    }
  });
}

TEST(Int8Linear, NotANumberStays) {
  each_form([](at::ScalarType type) {
    Tensor x = normal({3, 64}, 1).to(type);
    x[1][5] = std::numeric_limits<double>::quiet_NaN();
    const Tensor y = fast(x, normal({20, 64}, 2).to(type), {});
    EXPECT_TRUE(y[1].isnan().all().item<bool>());
    EXPECT_FALSE(y[0].isnan().any().item<bool>());
    x[1][5] = std::numeric_limits<double>::infinity();
    EXPECT_FALSE(fast(x, normal({20, 64}, 2).to(type), {})[1].isfinite().any().item<bool>());
  });
}

TEST(Int8Linear, RepacksAnotherWeightAndSaysWhatIsWrong) {
  ops::PackedInt8 packed;
  const Tensor x = normal({3, 16}, 1, at::kFloat);
  Tensor weight = normal({8, 16}, 2, at::kFloat);
  const Tensor y = ops::int8_linear(x, weight, {}, packed);
  weight.mul_(2.0);
  expect_close(ops::int8_linear(x, weight, {}, packed), 2 * y, 2e-6, "written to");
  EXPECT_THROW(ops::int8_linear(x, normal({8, 15}, 2, at::kFloat), {}, packed), InternalError);
}

TEST(Int8Linear, ForwardOnlyKeepsTheGradientExact) {
  ops::PackedInt8 packed{.exact_gradient = true};
  const Tensor weight = normal({96, 64}, 2, at::kFloat);
  const Tensor x = normal({5, 64}, 1, at::kFloat).requires_grad_(true), d_y = normal({5, 96}, 3, at::kFloat);
  const Tensor y = ops::int8_linear(x, weight, {}, packed);
  EXPECT_GT(relative_error(y.detach(), at::linear(x, weight).detach()), 1e-3);
  expect_close(torch::autograd::grad({y}, {x}, {d_y})[0], d_y.matmul(weight), 2e-6, "gradient");
  expect_close(ops::int8_linear_gradient(d_y, weight, packed), d_y.matmul(weight), 2e-6, "gradient alone");
}

}  // namespace
}  // namespace graft::test
