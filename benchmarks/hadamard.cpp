// The Walsh-Hadamard transform and the Fastfood map against a plain loop and against passes over memory, in
// one run.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "graft/ops/fastfood.h"
#include "graft/ops/hadamard.h"

namespace {

using at::Tensor;
using graft::ops::hadamard;

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The quickest of several: others use this machine too.
double best(int times, const std::function<void()>& work) {
  double least = 1e9;
  for (int i = 0; i < times; ++i) least = std::min(least, seconds(work));
  return least;
}

/// The transform as one writes it down.
void plain_loop(float* values, int64_t n) {
  for (int64_t h = 1; h < n; h *= 2) {
    for (int64_t i = 0; i < n; i += 2 * h) {
      for (int64_t j = i; j < i + h; ++j) {
        const float a = values[j], b = values[j + h];
        values[j] = a + b;
        values[j + h] = a - b;
      }
    }
  }
}

/// One reading and writing of everything.
void pass(float* values, int64_t n) {
  at::parallel_for(0, n, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 16) {
      typedef float Line __attribute__((vector_size(64), aligned(4), may_alias));
      Line& line = *reinterpret_cast<Line*>(values + i);
      line = line * 0.5f;
    }
  });
}

void against_plain_loop(int bits) {
  const int64_t n = int64_t{1} << bits;
  const Tensor values = at::zeros({n});
  auto* const data = values.mutable_data_ptr<float>();
  const double plain = best(5, [&] { plain_loop(data, n); });
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = best(9, [&] { hadamard(data, bits); });
  at::set_num_threads(threads);
  const double all = best(9, [&] { hadamard(data, bits); });
  fmt::print(
      "2^{}: plain loop {:.2f} ms; transform {:.2f} ms on 1 thread ({:.1f} x), {:.2f} ms on {} ({:.1f} x)\n",
      bits, plain * 1e3, one * 1e3, plain / one, all * 1e3, threads, plain / all);
}

void against_memory(int bits) {
  const int64_t n = int64_t{1} << bits;
  const Tensor values = at::zeros({n});
  auto* const data = values.mutable_data_ptr<float>();
  const int passes = graft::ops::hadamard_passes(bits);
  double one_pass = 1e9, transform = 1e9;
  for (int i = 0; i < 7; ++i) {  // by turns, so that both see the same machine
    one_pass = std::min(one_pass, seconds([&] { pass(data, n); }));
    transform = std::min(transform, seconds([&] { hadamard(data, bits); }));
  }
  fmt::print("2^{}: {} passes of {:.1f} ms ({:.1f} GB/s); transform {:.1f} ms, {:.2f} x the passes\n", bits,
             passes, one_pass * 1e3, 8e-9 * static_cast<double>(n) / one_pass, transform * 1e3,
             transform / (passes * one_pass));
}

void fastfood_map(int bits, int64_t d) {
  const graft::ops::Fastfood map{.key = 1, .bits = bits};
  const Tensor x = at::randn({d});
  Tensor values = at::zeros({map.size()});
  const double forward = best(5, [&] { graft::ops::fastfood(map, x, values); });
  const double backward = best(5, [&] { graft::ops::fastfood_transposed(map, values.fill_(1e-3), d); });
  fmt::print("Fastfood {} into 2^{}: forward {:.1f} ms, transposed {:.1f} ms\n", d, bits, forward * 1e3,
             backward * 1e3);
}

}  // namespace

int main() {
  fmt::print("{}, {} threads\n", graft::ops::hadamard_instruction_set(), at::get_num_threads());
  for (const int bits : {10, 16, 22}) against_plain_loop(bits);
  for (const int bits : {24, 26, 27}) against_memory(bits);
  for (const int bits : {20, 25}) fastfood_map(bits, 1000);
  return 0;
}
