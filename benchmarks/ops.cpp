// Attention, low-rank updates, norms, activations and losses: the fast form against libtorch's own operations
// on the same work, interleaved; the best round of each counts.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>

#include "graft/nn/chunked_sum.h"
#include "graft/ops/activation.h"
#include "graft/ops/adapted_linear.h"
#include "graft/ops/attention.h"
#include "graft/ops/cross_entropy.h"
#include "graft/ops/frozen_linear.h"
#include "graft/ops/kernels.h"
#include "graft/ops/low_rank.h"
#include "graft/ops/norm.h"

namespace {

using at::Tensor;
namespace ops = graft::ops;

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Both sides in turn, so that a busy moment of the machine meets both.
void compare(const std::string& name, const std::function<void()>& ours,
             const std::function<void()>& theirs) {
  double best_ours = 1e9, best_theirs = 1e9;
  for (int i = 0; i < 7; ++i) {
    best_ours = std::min(best_ours, seconds(ours));
    best_theirs = std::min(best_theirs, seconds(theirs));
  }
  fmt::print("{:<58} {:>9.3f} ms {:>9.3f} ms {:>6.2f}×\n", name, 1e3 * best_ours, 1e3 * best_theirs,
             best_theirs / best_ours);
  std::fflush(stdout);
}

void both_ways(const Tensor& y, const std::vector<Tensor>& leaves, const Tensor& d_y) {
  torch::autograd::grad({y}, leaves, {d_y}, false, false, true);
}

Tensor leaf(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape).to(type).requires_grad_(true);
}

/// One batch of equal lengths, as scaled_dot_product_attention takes it without a mask.
void attention_equal(int64_t sequences, int64_t length, bool causal, at::ScalarType type) {
  const int64_t heads = 12, dim = 64, rows = sequences * length;
  const Tensor q = leaf({rows, heads, dim}, type), k = leaf({rows, heads, dim}, type),
               v = leaf({rows, heads, dim}, type);
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= sequences; ++b) offsets.push_back(b * length);
  const ops::Spans spans = ops::Spans::of(offsets);
  const Tensor d = at::randn({rows, heads, dim}).to(type);
  ops::AttentionOptions options;
  options.causal = causal;
  const auto split = [&](const Tensor& x) { return x.view({sequences, length, heads, dim}).transpose(1, 2); };
  compare(
      fmt::format("attention {} × {}{} {}", sequences, length, causal ? " causal" : "", at::toString(type)),
      [&] {
        both_ways(ops::attention(q, k, v, spans, spans, options), {q, k, v}, d);
      },
      [&] {
        const Tensor y = at::scaled_dot_product_attention(split(q), split(k), split(v), {}, 0.0, causal);
        both_ways(y, {q, k, v}, split(d));
      });
}

/// Lengths as MRPC's; the other side gets them padded, with a mask.
void attention_ragged(at::ScalarType type) {
  const int64_t heads = 12, dim = 64, sequences = 32;
  std::vector<int64_t> offsets{0};
  for (int64_t b = 0; b < sequences; ++b) offsets.push_back(offsets.back() + 25 + (b * 37) % 59);
  int64_t longest = 0;
  for (size_t b = 1; b < offsets.size(); ++b) longest = std::max(longest, offsets[b] - offsets[b - 1]);
  const int64_t rows = offsets.back();
  const Tensor q = leaf({rows, heads, dim}, type), k = leaf({rows, heads, dim}, type),
               v = leaf({rows, heads, dim}, type);
  const Tensor d = at::randn({rows, heads, dim}).to(type);
  const Tensor pq = leaf({sequences, heads, longest, dim}, type),
               pk = leaf({sequences, heads, longest, dim}, type),
               pv = leaf({sequences, heads, longest, dim}, type),
               pd = at::randn({sequences, heads, longest, dim}).to(type);
  Tensor mask = at::zeros({sequences, 1, 1, longest}, type);
  for (int64_t b = 0; b < sequences; ++b) {
    mask[b]
        .narrow(2, offsets[static_cast<size_t>(b) + 1] - offsets[static_cast<size_t>(b)],
                longest - (offsets[static_cast<size_t>(b) + 1] - offsets[static_cast<size_t>(b)]))
        .fill_(-1e9);
  }
  const ops::Spans spans = ops::Spans::of(offsets);
  compare(
      fmt::format("attention, {} sequences of 25 to 83, {}", sequences, at::toString(type)),
      [&] {
        both_ways(ops::attention(q, k, v, spans, spans, {}), {q, k, v}, d);
      },
      [&] {
        both_ways(at::scaled_dot_product_attention(pq, pk, pv, mask), {pq, pk, pv}, pd);
      });
}

void products(int64_t rows, int64_t in, int64_t out, at::ScalarType type) {
  const Tensor x = leaf({rows, in}, type), weight = at::randn({out, in}).to(type),
               d = at::randn({rows, out}).to(type);
  ops::PackedWeight packed;
  compare(
      fmt::format("frozen linear {}×{}→{} {}", rows, in, out, at::toString(type)),
      [&] { both_ways(ops::frozen_linear(x, weight, {}, packed), {x}, d); },
      [&] { both_ways(at::linear(x, weight), {x}, d); });
}

void low_rank(int64_t rows, int64_t in, int64_t out, int64_t r, at::ScalarType type) {
  const Tensor y = leaf({rows, out}, type), x = leaf({rows, in}, type), a = leaf({r, in}, at::kFloat),
               b = leaf({out, r}, at::kFloat);
  const Tensor d = at::randn({rows, out}).to(type);
  compare(
      fmt::format("low rank {} of {}×{}→{} {}", r, rows, in, out, at::toString(type)),
      [&] {
        both_ways(ops::low_rank_add(y, x, a, b, 2.0), {y, x, a, b}, d);
      },
      [&] {
        both_ways(y + at::matmul(at::matmul(x, a.to(type).t()), b.to(type).t()) * 2.0, {y, x, a, b}, d);
      });
}

/// Query, key and value with LoRA on all three: in one operation, and one map after the other.
void adapted(int64_t rows, int64_t in, int64_t out, int64_t r, at::ScalarType type) {
  const Tensor x = leaf({rows, in}, type), d = at::randn({rows, 3 * out}).to(type);
  std::vector<Tensor> leaves = {x};
  std::vector<ops::PackedWeight> packed(3);
  std::vector<ops::AdaptedLinear> maps;
  for (size_t i = 0; i < 3; ++i) {
    const Tensor a = leaf({r, in}, at::kFloat), b = leaf({out, r}, at::kFloat);
    leaves.insert(leaves.end(), {a, b});
    maps.push_back({.weight = at::randn({out, in}).to(type),
                    .packed = &packed[i],
                    .update = ops::LowRankUpdate{.a = a, .b = b, .scale = 2}});
  }
  compare(
      fmt::format("three maps with LoRA {} of {}×{}→{} {}", r, rows, in, out, at::toString(type)),
      [&] { both_ways(at::cat(ops::adapted_linears(x, maps), 1), leaves, d); },
      [&] {
        std::vector<Tensor> y;
        for (size_t i = 0; i < 3; ++i) {
          const Tensor base = ops::frozen_linear(x, maps[i].weight, {}, packed[i]);
          y.push_back(ops::low_rank_add(base, x, maps[i].update->a, maps[i].update->b, 2));
        }
        both_ways(at::cat(y, 1), leaves, d);
      });
}

void elementwise(at::ScalarType type) {
  const Tensor x = leaf({1700, 768}, type), residual = leaf({1700, 768}, type), w = at::ones({768}, type),
               b = at::zeros({768}, type);
  const Tensor d = at::randn({1700, 768}).to(type), wide = leaf({1700, 3072}, type),
               up = leaf({1700, 3072}, type);
  const Tensor d_wide = at::randn({1700, 3072}).to(type);
  const std::string name = at::toString(type);
  compare(
      "add and layer_norm 1700×768 " + name,
      [&] {
        both_ways(ops::add_layer_norm(x, residual, w, b, 1e-5).normed, {x, residual}, d);
      },
      [&] {
        both_ways(at::layer_norm(x + residual, {768}, w, b, 1e-5), {x, residual}, d);
      });
  compare(
      "gelu 1700×3072 " + name,
      [&] { both_ways(ops::activate(ops::Activation::gelu, wide), {wide}, d_wide); },
      [&] { both_ways(at::gelu(wide), {wide}, d_wide); });
  compare(
      "silu · up 1700×3072 " + name,
      [&] {
        both_ways(ops::activate_gated(ops::Activation::silu, wide, up), {wide, up}, d_wide);
      },
      [&] {
        both_ways(at::silu(wide) * up, {wide, up}, d_wide);
      });
}

void vocabulary(at::ScalarType type) {
  const Tensor hidden = leaf({1024, 576}, type), weight = (at::randn({49152, 576}) / 24).to(type),
               target = at::randint(49152, {1024}, at::kLong);
  ops::PackedWeight packed;
  compare(
      fmt::format("linear and cross entropy 1024×576→49152 {}", at::toString(type)),
      [&] {
        const auto part = [&](const Tensor& rows, int64_t first) {
          return ops::cross_entropy(ops::frozen_linear(rows, weight, {}, packed),
                                    target.narrow(0, first, rows.size(0)));
        };
        torch::autograd::grad({graft::chunked_sum(part, hidden, 192)}, {hidden});
      },
      [&] {
        const Tensor logits = at::linear(hidden, weight).to(at::kFloat);
        torch::autograd::grad({at::cross_entropy_loss(logits, target, {}, at::Reduction::Sum)}, {hidden});
      });
}

}  // namespace

int main() {
  fmt::print("{} threads, kernels {}; forward and backward: graft, libtorch, ratio\n", at::get_num_threads(),
             ops::isa());
  for (const auto type : {at::kBFloat16, at::kFloat}) {
    attention_ragged(type);
    for (const bool causal : {false, true}) {
      attention_equal(128, 16, causal, type);
      attention_equal(32, 64, causal, type);
      attention_equal(4, 512, causal, type);
      attention_equal(1, 8192, causal, type);
    }
    products(1700, 768, 768, type);
    products(1700, 768, 3072, type);
    products(1700, 3072, 768, type);
    products(1700, 384, 1536, type);
    products(1, 896, 4864, type);
    low_rank(1700, 768, 768, 8, type);
    low_rank(1700, 768, 768, 64, type);
    adapted(1700, 768, 768, 8, type);
    adapted(1700, 384, 384, 8, type);
    adapted(4096, 576, 576, 8, type);
    elementwise(type);
    vocabulary(type);
  }
}
