#include "graft/ops/frozen_linear.h"

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
      {"one row", 1, 16, 24, true},
      {"odd sizes", 7, 13, 5, true},
      {"no bias", 9, 32, 48, false},
      {"one output", 5, 8, 1, true},
      {"square", 65, 64, 64, true},
      {"no row", 0, 8, 4, true},
      {"long sum", 33, 300, 70, false},
      {"many rows", 211, 64, 200, true},
      {"two columns' vectors", 8, 32, 25, true},
      {"several pieces", 120, 96, 450, true},
      {"blocks of the sum", 20, 1100, 33, true},
      {"one row, long", 1, 9000, 70, true},
  };
  return table;
}

template <class Form>
Operation operation(const Case& c, const Tensor& weight, const Form& form) {
  return [&c, weight, form](const std::vector<Tensor>& x) {
    return form(x[0], weight.to(x[0].scalar_type()), c.bias ? x[1] : Tensor());
  };
}

Tensor fast(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  ops::PackedWeight packed;
  return ops::frozen_linear(x, weight, bias, packed);
}

std::vector<Tensor> inputs(const Case& c) {
  std::vector<Tensor> out = {normal({c.rows, c.in}, 1)};
  if (c.bias) out.push_back(normal({c.out}, 3));
  return out;
}

TEST(FrozenLinear, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : cases()) {
      const Tensor weight = (normal({c.out, c.in}, 2) / std::sqrt(static_cast<double>(c.in))).to(type);
      std::vector<at::ScalarType> types(inputs(c).size(), type);
      if (types.size() > 1) types[1] = at::kFloat;
      expect_fast(operation(c, weight, fast), operation(c, weight, ops::frozen_linear_plain), inputs(c),
                  types, c.name, c.in > 1000 ? 2 : 1);
    }
  });
}

TEST(FrozenLinear, AnyNumberOfRows) {
  each_form([](at::ScalarType type) {
    const Tensor weight = normal({70, 66}, 2).to(type), x = normal({40, 66}, 1).to(type);
    ops::PackedWeight packed;
    const Tensor exact = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
    for (int64_t rows = 1; rows <= 40; ++rows) {
      expect_close(ops::frozen_linear(x.narrow(0, 0, rows), weight, {}, packed), exact.narrow(0, 0, rows),
                   tolerance(type), fmt::format("{} rows, {}, {}", rows, at::toString(type), ops::isa()));
    }
  });
}

TEST(FrozenLinear, ARowDoesNotDependOnItsCompany) {
  // bfloat16 goes by panels; its rounding would hide the order of a sum in most elements, so there are many.
  each_form([](at::ScalarType type) {
    if (type != at::kBFloat16) return;
    const Tensor x = normal({100, 1100}, 1).to(type), weight = normal({130, 1100}, 2).to(type);
    ops::PackedWeight packed;
    const Tensor whole = ops::frozen_linear(x, weight, {}, packed);
    for (const int64_t rows : {1, 2, 3, 5, 6, 8, 17, 40})
      EXPECT_TRUE(
          at::equal(ops::frozen_linear(x.narrow(0, 9, rows), weight, {}, packed), whole.narrow(0, 9, rows)))
          << rows << ", " << ops::isa();
  });
}

TEST(FrozenLinear, PlainGradientsEqualDifferences) {
  for (const Case& c : cases()) {
    const Tensor weight = normal({c.out, c.in}, 2);
    expect_gradients(operation(c, weight, ops::frozen_linear_plain), inputs(c), c.name);
    expect_gradients(operation(c, weight, fast), inputs(c), c.name);
  }
}

TEST(FrozenLinear, RepacksAnotherWeight) {
  ops::PackedWeight packed;
  const Tensor x = normal({3, 16}, 1, at::kFloat);
  Tensor weight = normal({8, 16}, 2, at::kFloat);
  ops::frozen_linear(x, weight, {}, packed);
  weight.mul_(2.0);
  expect_close(ops::frozen_linear(x, weight, {}, packed), at::linear(x, weight), 2e-6, "written to");
  const Tensor other = normal({8, 16}, 3, at::kFloat);
  expect_close(ops::frozen_linear(x, other, {}, packed), at::linear(x, other), 2e-6, "another one");
  expect_close(ops::frozen_linear(normal({50, 16}, 4, at::kFloat), other, {}, packed),
               at::linear(normal({50, 16}, 4, at::kFloat), other), 2e-6, "another number of rows");
}

/// What a gradient is by two layouts, and by one.
void expect_one_layout_does(int64_t rows, int64_t in, int64_t out, at::ScalarType type,
                            const std::string& what) {
  ops::PackedWeight two, one{.single = true};
  const Tensor weight = normal({out, in}, 2).to(type), d_y = normal({rows, out}, 3).to(type);
  const Tensor expected = ops::frozen_linear_gradient(d_y, weight, two);
  const Tensor found = ops::frozen_linear_gradient(d_y, weight, one);
  EXPECT_FALSE(one.backward.defined() && ops::goes_in_panels(d_y, weight)) << what;
  if (ops::goes_in_panels(d_y, weight)) {
    EXPECT_TRUE(at::equal(found, expected)) << what;
  } else {
    expect_close(found, expected, tolerance(type), what);
  }
}

TEST(FrozenLinear, OneLayoutGivesTheSameGradient) {
  each_form([](at::ScalarType type) {
    for (const Case& c : cases())
      expect_one_layout_does(c.rows, c.in, c.out, type,
                             fmt::format("{}, {}, {}", c.name, at::toString(type), ops::isa()));
    // More than may be turned at once.
    expect_one_layout_does(3, 330, 70'001, type, fmt::format("deep, {}, {}", at::toString(type), ops::isa()));
  });
}

TEST(FrozenLinear, SavesNoInput) {
  ops::PackedWeight packed;
  const Tensor weight = normal({8, 16}, 2, at::kFloat);
  Tensor x = normal({3, 16}, 1, at::kFloat).requires_grad_(true), y;
  {
    const Tensor input = x * 1.0;
    y = ops::frozen_linear(input, weight, {}, packed);
    EXPECT_EQ(input.use_count(), 1u);
  }
  const auto d_x = torch::autograd::grad({y}, {x}, {at::ones_like(y)});
  expect_close(d_x[0], at::ones({3, 8}).matmul(weight), 2e-6, "gradient");
}

TEST(FrozenLinear, SaysWhatIsWrong) {
  ops::PackedWeight packed;
  EXPECT_THROW(ops::frozen_linear(at::zeros({3, 4}), at::zeros({5, 6}), {}, packed), InternalError);
}

}  // namespace
}  // namespace graft::test
