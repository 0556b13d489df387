#include "graft/ops/attention.h"

#include <ATen/Parallel.h>

#include "graft/base/error.h"
#include "tests/ops/cases.h"

namespace graft::test {
namespace {

using ops::AttentionOptions;
using ops::Spans;

struct Case {
  const char* name;
  std::vector<int64_t> queries, keys;  // lengths
  int64_t heads = 2, key_heads = 2, dim = 8;
  AttentionOptions options = {};
  int64_t bias_reach = -1;  // -1: no bias
  int64_t gap = 0;          // rows between sequences
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"one token", {1}, {1}},
      {"single tokens", {1, 1, 1}, {1, 1, 1}, 4, 2},
      {"short", {3, 5, 2}, {3, 5, 2}},
      {"causal", {3, 17, 2}, {3, 17, 2}, 2, 2, 8, {.causal = true}},
      {"grouped heads", {4, 19}, {4, 19}, 6, 2, 16, {.causal = true}},
      {"prefix", {4, 6}, {9, 11}, 2, 1, 8, {.causal = true}, -1, 3},
      {"cross", {4, 6}, {7, 2}, 2, 2, 8},
      {"cache", {1, 1}, {9, 33}, 4, 2, 8, {.causal = true}, -1, 5},
      {"window", {23}, {23}, 2, 2, 8, {.causal = true, .window = 5}},
      {"window of both sides", {23, 4}, {23, 4}, 2, 2, 8, {.window = 4}},
      {"scale", {6}, {6}, 2, 2, 8, {.scale = 1.0}},
      {"bias", {6, 11}, {6, 11}, 2, 2, 8, {.scale = 1.0}, 3},
      {"causal bias, prefix", {6, 11}, {9, 13}, 4, 2, 8, {.causal = true}, 20},
      {"dropout", {6, 70}, {6, 70}, 2, 2, 8, {.dropout = 0.3, .key = 12345678901234567ull}},
      {"dropout, causal, grouped", {6, 31}, {8, 31}, 4, 1, 8, {.causal = true, .dropout = 0.5, .key = 7}},
      {"empty sequence", {4, 0, 3}, {4, 0, 3}},
      {"no sequence", {}, {}},
      {"wide head", {5}, {5}, 1, 1, 40},
      {"several blocks", {150, 65}, {150, 65}, 2, 1, 32, {.causal = true}},
      {"several blocks, both ways", {130, 300}, {130, 300}, 2, 2, 64},
      {"several blocks, window", {400}, {400}, 1, 1, 16, {.causal = true, .window = 130}},
      {"several blocks, bias and dropout",
       {140},
       {270},
       2,
       1,
       16,
       {.causal = true, .dropout = 0.1, .key = 5},
       60},
  };
  return table;
}

Spans spans(const std::vector<int64_t>& lengths, int64_t gap) {
  Spans out;
  int64_t at = 0;
  for (const int64_t length : lengths) {
    out.starts.push_back(at);
    out.lengths.push_back(length);
    at += length + gap;
  }
  return out;
}

int64_t rows(const Spans& s) { return s.starts.empty() ? 0 : s.starts.back() + s.lengths.back(); }

std::vector<Tensor> inputs(const Case& c) {
  const int64_t t = rows(spans(c.queries, c.gap)), s = rows(spans(c.keys, c.gap));
  std::vector<Tensor> out = {normal({t, c.heads, c.dim}, 1), normal({s, c.key_heads, c.dim}, 2),
                             normal({s, c.key_heads, c.dim}, 3)};
  if (c.bias_reach >= 0) out.push_back(normal({c.heads, 2 * c.bias_reach + 1}, 4));
  return out;
}

template <class Form>
Operation operation(const Case& c, const Form& form) {
  return [&c, form](const std::vector<Tensor>& x) {
    AttentionOptions options = c.options;
    if (x.size() > 3) options.distance_bias = x[3];
    return form(x[0], x[1], x[2], spans(c.queries, c.gap), spans(c.keys, c.gap), options);
  };
}

TEST(Attention, OneQueryASequenceReadsKeysInPlace) {
  // Seven heads share a head of keys; lengths around the blocks of keys; a window; a bias by distance.
  each_form([](at::ScalarType type) {
    for (const int64_t dim : {8, 40, 64}) {
      for (const int64_t window : {0, 5, 200}) {
        const std::vector<int64_t> lengths = {1, 16, 129, 300};
        const ops::Spans queries = ops::Spans::of({0, 1, 2, 3, 4});
        ops::Spans keys{{0, 10, 40, 200}, lengths};
        const Tensor q = normal({4, 14, dim}, 1).to(type), k = normal({520, 2, dim}, 2).to(type),
                     v = normal({520, 2, dim}, 3).to(type);
        ops::AttentionOptions options{.causal = true, .window = window};
        if (window == 200) options.distance_bias = normal({14, 21}, 4).to(at::kFloat);
        const Tensor got = ops::attention(q, k, v, queries, keys, options);
        options.distance_bias =
            options.distance_bias.defined() ? options.distance_bias.to(at::kDouble) : Tensor();
        const Tensor exact = ops::attention_plain(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble),
                                                  queries, keys, options);
        expect_close(got, exact, tolerance(type), fmt::format("dim {}, window {}", dim, window));
      }
    }
  });
}

TEST(Attention, PlainGradientsEqualDifferences) {
  for (const Case& c : cases()) {
    if (rows(spans(c.keys, c.gap)) > 40 || c.dim > 16) continue;
    expect_gradients(operation(c, ops::attention_plain), inputs(c), c.name);
  }
}

TEST(Attention, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : cases()) {
      const auto x = inputs(c);
      std::vector<at::ScalarType> types(x.size(), type);
      if (types.size() > 3) types[3] = at::kFloat;
      expect_fast(operation(c, ops::attention), operation(c, ops::attention_plain), x, types, c.name);
    }
  });
}

TEST(Attention, Float64TakesThePlainForm) {
  const Case& c = cases()[3];
  const auto x = inputs(c);
  EXPECT_TRUE(at::equal(operation(c, ops::attention)(x), operation(c, ops::attention_plain)(x)));
}

TEST(Attention, ReadsViewsOfAFusedProjection) {
  const Tensor fused = normal({9, 3 * 2 * 8}, 5, at::kFloat);
  const auto part = [&](int64_t i) { return fused.narrow(1, i * 16, 16).view({9, 2, 8}); };
  const Spans s = spans({4, 5}, 0);
  const Tensor views = ops::attention(part(0), part(1), part(2), s, s, {});
  const Tensor copies =
      ops::attention(part(0).contiguous(), part(1).contiguous(), part(2).contiguous(), s, s, {});
  EXPECT_TRUE(at::equal(views, copies));
}

TEST(Attention, CompanyAndThreadsChangeNothing) {
  const Tensor q = normal({40, 2, 16}, 1, at::kBFloat16), k = normal({40, 2, 16}, 2, at::kBFloat16),
               v = normal({40, 2, 16}, 3, at::kBFloat16);
  const AttentionOptions options{.causal = true, .dropout = 0.2, .key = 3};
  const Spans s = spans({7, 33}, 0);
  const Tensor both = ops::attention(q, k, v, s, s, options);
  const Spans second{{7}, {33}};
  EXPECT_TRUE(
      at::equal(ops::attention(q, k, v, second, second, options).narrow(0, 7, 33), both.narrow(0, 7, 33)));
  const int before = at::get_num_threads();
  at::set_num_threads(before == 1 ? 2 : 1);
  EXPECT_TRUE(at::equal(ops::attention(q, k, v, s, s, options), both));
  at::set_num_threads(before);
}

TEST(Attention, DropsTheShareItSays) {
  const int64_t n = 200;
  const Tensor q = at::zeros({n, 1, 16}), v = at::ones({n, 1, 16});
  const Spans s = spans({n}, 0);
  // Equal weights 1/n: each output is the share of kept weights divided by 1 - p; 40,000 draws, deviation
  // 0.0019.
  const Tensor kept = ops::attention(q, q, v, s, s, {.dropout = 0.25, .key = 11}).select(2, 0) * 0.75;
  EXPECT_NEAR(kept.mean().item<double>(), 0.75, 0.01);
  EXPECT_GT(kept.std().item<double>(), 0.01);
}

TEST(Attention, SaysWhatIsWrong) {
  const Tensor q = at::zeros({4, 2, 8});
  const Spans s = spans({4}, 0), far{{2}, {4}}, shorter{{0}, {3}};
  EXPECT_THROW(ops::attention(q, q, q, s, far, {}), InternalError);
  EXPECT_THROW(ops::attention(q, q, q, s, shorter, {.causal = true}), InternalError);
  EXPECT_THROW(ops::attention(q, at::zeros({4, 3, 8}), at::zeros({4, 3, 8}), s, s, {}), InternalError);
  EXPECT_THROW(ops::attention(q, q, q, s, {}, {}), InternalError);
}

}  // namespace
}  // namespace graft::test
