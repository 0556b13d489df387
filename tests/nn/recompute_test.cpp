#include "graft/nn/recompute.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "graft/base/error.h"
#include "graft/nn/dropout.h"

namespace graft::test {
namespace {

TEST(Recomputed, RunsAgainInTheBackwardPassAndKeepsNothing) {
  const Tensor x = at::ones({3, 4}).requires_grad_(true), w = at::full({4}, 2.0F).requires_grad_(true);
  int runs = 0;
  c10::weak_intrusive_ptr<c10::TensorImpl> inner(at::empty({0}).getIntrusivePtr());
  const Part part = [&](const Tensor& y, RandomStream*) {
    ++runs;
    const Tensor middle = (y * w).exp();
    inner = c10::weak_intrusive_ptr<c10::TensorImpl>(middle.getIntrusivePtr());
    return middle * middle;
  };
  const Tensor y = recomputed(part, x, nullptr);
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(inner.expired()) << "an activation was kept";
  y.sum().backward();
  EXPECT_EQ(runs, 2);
  // d/dx exp(2 w x) = 2 w exp(2 w x): both sides round exp(4) once or twice.
  EXPECT_TRUE(at::allclose(x.grad(), at::full({3, 4}, 4 * std::exp(4.0F)), 1e-6));
  EXPECT_TRUE(at::allclose(w.grad(), at::full({4}, 3 * 2 * std::exp(4.0F)), 1e-6));
}

TEST(Recomputed, ReplaysTheDropoutAndMovesTheStreamOnce) {
  const Tensor x = at::ones({8, 64}).requires_grad_(true);
  RandomStream stream(3, "dropout"), again(3, "dropout");
  const Part part = [](const Tensor& y, RandomStream* dropout) { return dropped(y * y, 0.5, dropout); };
  const Tensor y = recomputed(part, x, &stream);
  stream.next_key();  // what follows draws on
  y.sum().backward();
  const Tensor wanted = dropped(at::ones({8, 64}), 0.5, &again);
  again.next_key();
  EXPECT_TRUE(at::equal(y.detach(), wanted));
  EXPECT_TRUE(at::equal(x.grad(), 2 * wanted));
  EXPECT_EQ(stream.position(), again.position());
}

TEST(Recomputed, ReachesWhatWasComputedOutside) {
  const Tensor leaf = at::full({4}, 3.0F).requires_grad_(true);
  const Tensor outside = leaf * leaf;  // its graph must stand two parts' backward passes
  const Part part = [&](const Tensor& y, RandomStream*) { return y * outside + outside; };
  const Tensor x = at::ones({2, 4});
  recomputed(part, recomputed(part, x, nullptr), nullptr).sum().backward();
  // y = (x o + o) o + o, o = l²: dy/do = 2 x o + 2 o + 1, for two rows, times 2 l.
  EXPECT_TRUE(at::equal(leaf.grad(), at::full({4}, 2.0F * (4 * 9 + 1) * 6)));
}

TEST(Recomputed, WithoutGradientIsThePartAlone) {
  const Part part = [](const Tensor& y, RandomStream*) { return y + 1; };
  const Tensor y = recomputed(part, at::ones({2}), nullptr);
  EXPECT_FALSE(y.requires_grad());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(recomputed(part, at::ones({2}).requires_grad_(true), nullptr).requires_grad());
}

TEST(Recomputed, SecondBackwardIsRefused) {
  const Tensor x = at::ones({2}).requires_grad_(true);
  const Tensor y = recomputed([](const Tensor& z, RandomStream*) { return z * z; }, x, nullptr).sum();
  y.backward();
  EXPECT_THROW(y.backward(), std::exception);
}

}  // namespace
}  // namespace graft::test
