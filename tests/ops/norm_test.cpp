#include "graft/ops/norm.h"

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

constexpr double kEps = 1e-3;

struct Shape {
  int64_t rows, n;
};
const std::vector<Shape> kShapes = {{1, 16}, {3, 5}, {7, 48}, {2, 1}, {0, 8}, {300, 70}};

struct Form {
  const char* name;
  Operation fast, plain;
  size_t inputs;  // x, weight, bias, residual
};

/// Sum and normed rows side by side: one tensor to compare.
Tensor both(const ops::AddedNorm& out) { return at::cat({out.sum, out.normed}, 1); }

const std::vector<Form>& forms() {
  using X = const std::vector<Tensor>&;
  static const std::vector<Form> table = {
      {"layer_norm", [](X x) { return ops::layer_norm(x[0], x[1], x[2], kEps); },
       [](X x) { return ops::layer_norm_plain(x[0], x[1], x[2], kEps); }, 3},
      {"layer_norm without weights", [](X x) { return ops::layer_norm(x[0], {}, {}, kEps); },
       [](X x) { return ops::layer_norm_plain(x[0], {}, {}, kEps); }, 1},
      {"rms_norm", [](X x) { return ops::rms_norm(x[0], x[1], kEps); },
       [](X x) { return ops::rms_norm_plain(x[0], x[1], kEps); }, 2},
      {"add_layer_norm", [](X x) { return both(ops::add_layer_norm(x[0], x[3], x[1], x[2], kEps)); },
       [](X x) { return both(ops::add_layer_norm_plain(x[0], x[3], x[1], x[2], kEps)); }, 4},
      {"add_layer_norm, normed rows alone",
       [](X x) { return ops::add_layer_norm(x[0], x[3], x[1], x[2], kEps).normed; },
       [](X x) { return ops::add_layer_norm_plain(x[0], x[3], x[1], x[2], kEps).normed; }, 4},
      {"add_rms_norm", [](X x) { return both(ops::add_rms_norm(x[0], x[2], x[1], kEps)); },
       [](X x) { return both(ops::add_rms_norm_plain(x[0], x[2], x[1], kEps)); }, 3},
  };
  return table;
}

std::vector<Tensor> inputs(const Form& form, const Shape& shape) {
  std::vector<Tensor> out = {normal({shape.rows, shape.n}, 1) * 2 + 0.5, normal({shape.n}, 2),
                             normal({shape.n}, 3), normal({shape.rows, shape.n}, 4)};
  if (std::string(form.name) == "add_rms_norm") std::swap(out[2], out[3]);
  out.resize(form.inputs);
  return out;
}

TEST(Norm, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Form& form : forms()) {
      for (const Shape& shape : kShapes) {
        const auto x = inputs(form, shape);
        // A row of one value is its own mean: rounding alone, magnified by 1 / √eps.
        if (shape.n == 1 && type == at::kBFloat16) continue;
        std::vector<at::ScalarType> types(x.size(), type);
        expect_fast(form.fast, form.plain, x, types, fmt::format("{} {}×{}", form.name, shape.rows, shape.n));
      }
    }
  });
}

TEST(Norm, WeightsMayBeWider) {
  const Form& form = forms()[0];
  const auto x = inputs(form, {7, 48});
  expect_fast(form.fast, form.plain, x, {at::kBFloat16, at::kFloat, at::kFloat}, "float32 weights");
}

TEST(Norm, PlainGradientsEqualDifferences) {
  for (const Form& form : forms()) expect_gradients(form.plain, inputs(form, {3, 5}), form.name);
}

TEST(Norm, NotANumberStays) {
  Tensor x = at::ones({2, 20});
  x[1][3] = std::numeric_limits<float>::quiet_NaN();
  const Tensor y = ops::layer_norm(x, {}, {}, kEps);
  EXPECT_FALSE(y[0].isnan().any().item<bool>());
  EXPECT_TRUE(y[1].isnan().all().item<bool>());
}

TEST(Norm, SaysWhatIsWrong) {
  EXPECT_THROW(ops::layer_norm(at::zeros({2, 4}), at::zeros({3}), {}, kEps), InternalError);
  EXPECT_THROW(ops::add_rms_norm(at::zeros({2, 4}), at::zeros({2, 3}), {}, kEps), InternalError);
}

}  // namespace
}  // namespace graft::test
