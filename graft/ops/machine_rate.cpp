#include "graft/ops/machine_rate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_int_mm.h>

#include <chrono>
#include <limits>

#include "graft/base/error.h"
#include "graft/ops/int8_linear.h"
#include "graft/ops/types.h"

namespace graft::ops {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The shortest time of several rounds; the machine may be shared.
template <class Work>
double shortest(int64_t rounds, const Work& work) {
  work();
  double least = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < rounds; ++i) {
    const double start = seconds_now();
    work();
    least = std::min(least, seconds_now() - start);
  }
  return least;
}

/// The shorter time of ours and of libtorch's, which multiplies the first n rows; where a few of them show
/// that it has only a slow form, it is not waited for.
template <class Ours, class Libtorchs>
double better(const Ours& ours, const Libtorchs& libtorchs, int64_t rows, int64_t rounds) {
  const int64_t few = std::min<int64_t>(rows, 64);
  const double own = shortest(rounds, ours), some = shortest(1, [&] { libtorchs(few); });
  if (some * static_cast<double>(rows) > 4 * own * static_cast<double>(few)) return own;
  return std::min(own, shortest(rounds, [&] { libtorchs(rows); }));
}

}  // namespace

double matrix_rate(at::ScalarType type, const ProductShape& shape, int64_t rounds) {
  const at::NoGradGuard no_grad;
  const double operations =
      2.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.in) * static_cast<double>(shape.out);
  if (type == at::kChar) {
    const Tensor x = at::randint(-127, 128, {shape.rows, shape.in}, at::kChar);
    const Tensor w = at::randint(-127, 128, {shape.out, shape.in}, at::kChar);
    const Tensor rows = at::randn({shape.rows, shape.in}).to(at::kBFloat16);
    const Int8Panels panels = int8_forward_panels({w, at::ones({shape.out}, at::kFloat)});
    // Our own rounds its rows and scales its sums on the way.
    return operations / better([&] { int8_products(rows, {}, {{panels}}); },
                               [&](int64_t n) { at::_int_mm(x.narrow(0, 0, n), w.t()); }, shape.rows, rounds);
  }
  if (type != at::kFloat && type != at::kBFloat16)
    throw InternalError("matrix_rate", "{}: not measured", at::toString(type));
  const Tensor x = at::randn({shape.rows, shape.in}).to(type), w = at::randn({shape.out, shape.in}).to(type);
  PackedWeight packed;
  return operations / better([&] { frozen_linear(x, w, {}, packed); },
                             [&](int64_t n) { at::linear(x.narrow(0, 0, n), w); }, shape.rows, rounds);
}

double read_bandwidth(int64_t rounds) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  const Tensor buffer = at::ones({kBytes / 4}, at::kFloat);
  const Tensor sums = at::zeros({at::get_num_threads()}, at::kFloat);
  const double time = shortest(rounds, [&] {
    at::parallel_for(0, kBytes / 4, 1 << 20, [&](int64_t begin, int64_t end) {
      const float* x = data<float>(buffer);
      // The largest of the values: memory, not additions, is what this waits for.
      writable<float>(sums)[at::get_thread_num()] += kernels<float>().highest(x + begin, end - begin);
    });
  });
  return static_cast<double>(kBytes) / time;
}

}  // namespace graft::ops
