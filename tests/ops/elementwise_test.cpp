// Activations, dropout, rotary positions, the optimizer's step.
#include <ATen/Parallel.h>

#include "graft/base/error.h"
#include "graft/base/random.h"
#include "graft/ops/activation.h"
#include "graft/ops/adamw.h"
#include "graft/ops/dropout.h"
#include "graft/ops/philox.h"
#include "graft/ops/rope.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

using ops::Activation;
const std::vector<Activation> kKinds = {Activation::gelu, Activation::gelu_tanh, Activation::silu,
                                        Activation::tanh, Activation::relu};

TEST(Activation, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Activation kind : kKinds) {
      for (const int64_t n : {1, 16, 37, 20000}) {
        const auto x = std::vector<Tensor>{normal({n}, 1) * 3, normal({n}, 2)};
        const auto name = fmt::format("kind {}, {} values", static_cast<int>(kind), n);
        expect_fast([kind](const auto& v) { return ops::activate(kind, v[0]); },
                    [kind](const auto& v) { return ops::activate_plain(kind, v[0]); }, {x[0]}, {type}, name);
        expect_fast([kind](const auto& v) { return ops::activate_gated(kind, v[0], v[1]); },
                    [kind](const auto& v) { return ops::activate_gated_plain(kind, v[0], v[1]); }, x,
                    {type, type}, name + ", gated");
      }
    }
  });
}

TEST(Activation, PlainGradientsEqualDifferences) {
  for (const Activation kind : kKinds) {
    expect_gradients([kind](const auto& v) { return ops::activate_gated_plain(kind, v[0], v[1]); },
                     {normal({9}, 1), normal({9}, 2)}, "gated");
  }
}

TEST(Activation, FarValuesStayFinite) {
  const Tensor x = at::tensor({-1e4f, -200.0f, -90.0f, -20.0f, 20.0f, 90.0f, 200.0f, 1e4f});
  for (const Activation kind : kKinds) {
    expect_close(ops::activate(kind, x), ops::activate_plain(kind, x), 1e-6,
                 fmt::format("kind {}", static_cast<int>(kind)));
  }
}

TEST(Philox, KernelsDrawWhatStreamsDraw) {
  for (uint32_t i = 0; i < 100; ++i) {
    const std::array<uint32_t, 4> counter{i, i * 7, 3, i * i};
    const uint64_t key = 0x123456789ABCDEFull * (i + 1);
    EXPECT_EQ(ops::philox_block(counter, ops::PhiloxKey(key)),
              philox(counter, {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)}));
  }
}

TEST(Dropout, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const int64_t n : {0, 1, 63, 64, 65, 5000}) {
      for (const double p : {0.0, 0.1, 0.9, 1.0}) {
        expect_fast([p](const auto& v) { return ops::dropout(v[0], p, 42); },
                    [p](const auto& v) { return ops::dropout_plain(v[0], p, 42); }, {normal({n}, 1)}, {type},
                    fmt::format("{} values, p {}", n, p));
      }
    }
  });
}

TEST(Dropout, DropsTheShareItSaysAndForgetsNothing) {
  const Tensor ones = at::ones({100000});
  const Tensor first = ops::dropout(ones, 0.3, 1), again = ops::dropout(ones, 0.3, 1),
               other = ops::dropout(ones, 0.3, 2);
  EXPECT_TRUE(at::equal(first, again));
  // 100,000 draws: deviation 0.0014. Two keys agree where both keep or both drop: 0.58.
  EXPECT_NEAR(first.eq(0).to(at::kDouble).mean().item<double>(), 0.3, 0.008);
  EXPECT_NEAR(first.eq(other).to(at::kDouble).mean().item<double>(), 0.58, 0.008);
  EXPECT_NEAR(first.max().item<double>(), 1 / 0.7, 1e-6);
  const int before = at::get_num_threads();
  at::set_num_threads(before == 1 ? 2 : 1);
  EXPECT_TRUE(at::equal(ops::dropout(ones, 0.3, 1), first));
  at::set_num_threads(before);
}

struct RopeCase {
  int64_t rows, heads, dim, half;
};

TEST(Rope, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const RopeCase& c : {RopeCase{1, 1, 8, 4}, RopeCase{9, 3, 64, 32}, RopeCase{5, 2, 20, 4},
                              RopeCase{0, 2, 8, 4}, RopeCase{4, 1, 48, 17}}) {
      const auto table = ops::rope_table(at::rand({c.half}), 50, 1.5);
      const Tensor positions = (at::arange(c.rows, at::kLong) * 7).remainder(50);
      expect_fast([&](const auto& v) { return ops::rope(v[0], positions, table); },
                  [&](const auto& v) { return ops::rope_plain(v[0], positions, table); },
                  {normal({c.rows, c.heads, c.dim}, 1)}, {type}, fmt::format("{} rows of {}", c.rows, c.dim));
    }
  });
}

TEST(Rope, PlainGradientsEqualDifferences) {
  const auto table = ops::rope_table(at::rand({3}), 10);
  const Tensor positions = at::arange(4, at::kLong);
  expect_gradients([&](const auto& v) { return ops::rope_plain(v[0], positions, table); },
                   {normal({4, 2, 8}, 1)}, "rope");
}

TEST(Rope, ReadsViewsAndRefusesFarPositions) {
  const auto table = ops::rope_table(at::rand({4}), 10);
  const Tensor fused = normal({5, 3, 2, 8}, 1, at::kFloat), positions = at::arange(5, at::kLong);
  EXPECT_TRUE(at::equal(ops::rope(fused.select(1, 1), positions, table),
                        ops::rope(fused.select(1, 1).contiguous(), positions, table)));
  EXPECT_THROW(ops::rope(fused.select(1, 1), positions + 6, table), InternalError);
  EXPECT_THROW(ops::rope(fused.select(1, 1), positions - 1, table), InternalError);
}

/// torch's single-tensor AdamW, in float64.
void reference_step(Tensor& p, const Tensor& g, Tensor& m, Tensor& v, int64_t step,
                    const ops::AdamWOptions& o) {
  p.mul_(1 - o.learning_rate * o.weight_decay);
  m.lerp_(g, 1 - o.beta1);
  v.mul_(o.beta2).addcmul_(g, g, 1 - o.beta2);
  const double c1 = 1 - std::pow(o.beta1, step), c2 = 1 - std::pow(o.beta2, step);
  p.addcdiv_(m, v.sqrt().div_(std::sqrt(c2)).add_(o.eps), -o.learning_rate / c1);
}

TEST(AdamW, EqualsTorchsFormula) {
  for (const std::string& name : runnable_isas()) {
    ops::choose_isa(name);
    const ops::AdamWOptions options{
        .learning_rate = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1};
    Tensor p = normal({37, 3}, 1, at::kFloat), m = at::zeros({37, 3}), v = at::zeros({37, 3});
    Tensor exact = p.to(at::kDouble), exact_m = m.to(at::kDouble), exact_v = v.to(at::kDouble);
    for (int64_t step = 1; step <= 10; ++step) {
      const Tensor g = normal({37, 3}, static_cast<uint64_t>(10 + step), at::kFloat);
      ops::adamw_step(p, g, m, v, step, options);
      reference_step(exact, g.to(at::kDouble), exact_m, exact_v, step, options);
    }
    // Ten steps, each rounding a value near 1 once or twice.
    expect_close(p, exact, 2e-6, "parameter, " + name);
    expect_close(v, exact_v, 2e-6, "second moment, " + name);
  }
  ops::choose_isa(runnable_isas().front());
}

/// The first step moves every element by the learning rate, whatever its gradient.
TEST(AdamW, TheFirstStepIsTheLearningRate) {
  for (const std::string& name : runnable_isas()) {
    ops::choose_isa(name);
    Tensor p = at::zeros({37}), m = at::zeros({37}), v = at::zeros({37});
    ops::adamw_step(p, normal({37}, 3, at::kFloat), m, v, 1, {.learning_rate = 1, .eps = 0});
    // Five operations that round to 6e-8 of the value each.
    EXPECT_LT((p.abs() - 1).abs().max().item<double>(), 3e-7) << name;
  }
  ops::choose_isa(runnable_isas().front());
}

TEST(AdamW, RefusesOtherTypesAndShapes) {
  Tensor p = at::zeros({3}), m = at::zeros({3}), v = at::zeros({3}), wide = at::zeros({3}, at::kDouble),
         other = at::zeros({4});
  EXPECT_THROW(ops::adamw_step(p, wide, m, v, 1, {}), InternalError);
  EXPECT_THROW(ops::adamw_step(p, at::zeros({3}), other, v, 1, {}), InternalError);
}

}  // namespace
}  // namespace graft::test
