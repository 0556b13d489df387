// What the tests of operations share: random tensors, comparison with float64, and gradients by central
// differences.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "graft/ops/kernels.h"

namespace graft::test {

using at::Tensor;

inline Tensor normal(at::IntArrayRef shape, uint64_t seed, at::ScalarType type = at::kDouble) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(shape, generator, at::TensorOptions(at::kDouble)).to(type);
}

/// The processors' names whose kernels this machine runs.
inline std::vector<std::string> runnable_isas() {
  std::vector<std::string> out;
  const std::string before = ops::isa();
  for (const char* name : {"avx512_amx", "avx512_bf16", "avx2", "portable"}) {
    try {
      ops::choose_isa(name);
      out.push_back(name);
    } catch (const std::exception&) {
    }
  }
  ops::choose_isa(before);
  return out;
}

/// Rounding of values of this type, relative to the largest of the tensor: 8 bits of mantissa (16-bit results
/// of sums of rounded terms: four roundings), 24 bits (sums of a few hundred terms).
inline double tolerance(at::ScalarType type) {
  return type == at::kBFloat16 ? 4.0 / 256 : type == at::kFloat ? 2e-6 : 1e-12;
}

inline void expect_close(const Tensor& actual, const Tensor& expected, double relative,
                         const std::string& what) {
  ASSERT_EQ(actual.defined(), expected.defined()) << what;
  if (!expected.defined()) return;
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  if (expected.numel() == 0) return;
  const Tensor wide = expected.to(at::kDouble);
  // Random inputs are of size 1: what cancels to less is rounding.
  const double largest = std::max(wide.abs().max().item<double>(), 0.25);
  const double error = (actual.to(at::kDouble) - wide).abs().max().item<double>();
  EXPECT_FALSE(std::isnan(error)) << what;
  EXPECT_LE(error, relative * largest) << what << ": largest value " << largest;
}

/// Output and gradients of f at `inputs` (leaves of their own types), for a fixed random gradient of the
/// output.
struct Evaluation {
  Tensor output;
  std::vector<Tensor> gradients;
};
using Operation = std::function<Tensor(const std::vector<Tensor>&)>;

inline Evaluation evaluate(const Operation& f, const std::vector<Tensor>& inputs,
                           const std::vector<at::ScalarType>& types) {
  std::vector<Tensor> leaves;
  for (size_t i = 0; i < inputs.size(); ++i)
    leaves.push_back(inputs[i].to(types[i]).detach().clone().requires_grad_(true));
  Evaluation out;
  out.output = f(leaves);
  const Tensor d_output = normal(out.output.sizes(), 99).to(out.output.scalar_type());
  if (out.output.requires_grad()) {
    out.gradients = torch::autograd::grad({out.output}, leaves, {d_output}, false, false, true);
  } else {
    for (const Tensor& leaf : leaves) out.gradients.push_back(at::zeros_like(leaf));
  }
  out.output = out.output.detach();
  return out;
}

/// Output and gradients of `fast` at inputs rounded to `types` against `plain` in float64 at the same rounded
/// inputs. The output has the first input's type, unless it is a scalar. `terms` widens the tolerance where
/// sums are longer than a few hundred.
inline void expect_fast(const Operation& fast, const Operation& plain, const std::vector<Tensor>& inputs,
                        const std::vector<at::ScalarType>& types, const std::string& what, double terms = 1) {
  std::vector<Tensor> rounded;
  for (size_t i = 0; i < inputs.size(); ++i) rounded.push_back(inputs[i].to(types[i]).to(at::kDouble));
  const Evaluation exact = evaluate(plain, rounded, std::vector<at::ScalarType>(inputs.size(), at::kDouble));
  const Evaluation got = evaluate(fast, rounded, types);
  const std::string where = what + ", " + at::toString(types[0]) + ", " + ops::isa();
  if (got.output.dim() > 0) {
    EXPECT_EQ(got.output.scalar_type(), types[0]) << where;
  }
  expect_close(got.output, exact.output, terms * tolerance(types[0]), where);
  for (size_t i = 0; i < inputs.size(); ++i) {
    // A gradient is a sum of products of rounded values: twice the roundings of an output.
    expect_close(got.gradients[i], exact.gradients[i], 2 * terms * tolerance(types[0]),
                 where + ", gradient " + std::to_string(i));
  }
}

/// For each processor's kernels and each type.
template <class Check>
void each_form(const Check& check) {
  for (const std::string& isa : runnable_isas()) {
    ops::choose_isa(isa);
    for (const auto type : {at::kFloat, at::kBFloat16}) check(type);
  }
  ops::choose_isa(runnable_isas().front());
}

/// f's gradients against central differences in float64, at up to a dozen elements of each input.
inline void expect_gradients(const Operation& f, const std::vector<Tensor>& inputs, const std::string& what) {
  const Evaluation analytic = evaluate(f, inputs, std::vector<at::ScalarType>(inputs.size(), at::kDouble));
  const Tensor d_output = normal(analytic.output.sizes(), 99);
  const double step = 1e-5;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t count = inputs[i].numel(), stride = std::max<int64_t>(1, count / 12);
    Tensor numeric = analytic.gradients[i].clone();
    for (int64_t j = 0; j < count; j += stride) {
      const auto value_at = [&](double shift) {
        std::vector<Tensor> moved;
        for (const Tensor& x : inputs) moved.push_back(x.clone());
        moved[i].view(-1)[j] += shift;
        return (f(moved) * d_output).sum().item<double>();
      };
      numeric.view(-1)[j] = (value_at(step) - value_at(-step)) / (2 * step);
    }
    // Truncation ~ step² times the third derivative, rounding ~ 1e-16 / step: both near 1e-10 of the sums.
    expect_close(analytic.gradients[i], numeric, 1e-7, what + ", gradient " + std::to_string(i));
  }
}

}  // namespace graft::test
