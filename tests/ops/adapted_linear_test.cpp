#include "graft/ops/adapted_linear.h"

#include <ATen/Parallel.h>

#include "tests/ops/cases.h"

namespace graft::test {
namespace {

/// r 0: a map without an update.
struct MapCase {
  int64_t out, r;
  bool bias, own_rows;
};
struct Case {
  const char* name;
  int64_t rows, in;
  std::vector<MapCase> maps;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"one map, no update", 9, 32, {{48, 0, true, false}}},
      {"one map", 70, 64, {{96, 8, true, false}}},
      {"one row", 1, 64, {{130, 8, false, false}, {64, 4, true, false}}},
      {"query, key, value", 67, 96, {{96, 8, true, false}, {96, 0, true, false}, {96, 8, true, false}}},
      {"grouped heads", 33, 64, {{64, 16, false, false}, {16, 3, false, false}, {16, 1, false, false}}},
      {"dropped rows", 40, 64, {{64, 8, true, true}, {32, 8, true, true}, {64, 8, false, false}}},
      {"gate and up, several pieces", 300, 128, {{450, 8, false, false}, {450, 17, false, true}}},
      {"a high rank", 20, 48, {{70, 64, true, false}}},
      {"more maps than terms", 5, 32, std::vector<MapCase>(5, {32, 2, true, false})},
      {"odd sizes", 7, 13, {{5, 2, true, false}, {6, 3, false, false}}},
      {"no row", 0, 16, {{8, 2, true, false}}},
  };
  return table;
}

std::vector<Tensor> inputs(const Case& c) {
  std::vector<Tensor> out = {normal({c.rows, c.in}, 1)};
  uint64_t seed = 10;
  for (const MapCase& map : c.maps) {
    if (map.r == 0) continue;
    if (map.own_rows) out.push_back(normal({c.rows, c.in}, seed++));
    out.push_back(normal({map.r, c.in}, seed++) / std::sqrt(static_cast<double>(c.in)));
    out.push_back(normal({map.out, map.r}, seed++) / std::sqrt(static_cast<double>(map.r)));
  }
  return out;
}

std::vector<at::ScalarType> types(const Case& c, at::ScalarType type) {
  std::vector<at::ScalarType> out = {type};
  for (const MapCase& map : c.maps) {
    if (map.r == 0) continue;
    if (map.own_rows) out.push_back(type);
    out.insert(out.end(), 2, at::kFloat);
  }
  return out;
}

/// Weights of `type`; every map's output side by side.
template <class Form>
Operation operation(const Case& c, at::ScalarType type, const Form& form) {
  std::vector<ops::AdaptedLinear> maps;
  uint64_t seed = 100;
  for (const MapCase& map : c.maps) {
    ops::AdaptedLinear one;
    one.weight = (normal({map.out, c.in}, seed++) / std::sqrt(static_cast<double>(c.in))).to(type);
    if (map.bias) one.bias = normal({map.out}, seed++).to(type);
    maps.push_back(one);
  }
  return [&c, maps, form](const std::vector<Tensor>& given) {
    std::vector<ops::AdaptedLinear> now = maps;
    size_t next = 1;
    for (size_t i = 0; i < now.size(); ++i) {
      // The exact form computes in float64.
      now[i].weight = now[i].weight.to(given[0].scalar_type());
      if (c.maps[i].r == 0) continue;
      ops::LowRankUpdate update;
      if (c.maps[i].own_rows) update.in = given[next++];
      update.a = given[next++];
      update.b = given[next++];
      update.scale = 1.7;
      now[i].update = update;
    }
    return at::cat(form(given[0], now), 1);
  };
}

TEST(AdaptedLinear, FastEqualsPlain) {
  each_form([](at::ScalarType type) {
    for (const Case& c : cases()) {
      expect_fast(operation(c, type, ops::adapted_linears), operation(c, type, ops::adapted_linears_plain),
                  inputs(c), types(c, type), c.name);
    }
  });
}

TEST(AdaptedLinear, PlainGradientsEqualDifferences) {
  for (const Case& c : cases()) {
    if (c.rows < 10)
      expect_gradients(operation(c, at::kDouble, ops::adapted_linears_plain), inputs(c), c.name);
  }
}

TEST(AdaptedLinear, RowsDoNotSeeTheirCompany) {
  for (const std::string& name : runnable_isas()) {
    const std::string before = ops::isa();
    ops::choose_isa(name);
    const Case c = {"", 60, 64, {{96, 8, true, false}, {70, 4, false, false}}};
    std::vector<Tensor> given;
    for (const Tensor& t : inputs(c)) given.push_back(t.to(given.empty() ? at::kBFloat16 : at::kFloat));
    const Operation run = operation(c, at::kBFloat16, ops::adapted_linears);
    const Tensor whole = run(given), all = given[0];
    for (const int64_t rows : {1, 2, 15, 17, 33}) {
      given[0] = all.narrow(0, 9, rows);
      EXPECT_TRUE(at::equal(run(given), whole.narrow(0, 9, rows))) << rows << ", " << name;
    }
    ops::choose_isa(before);
  }
}

TEST(AdaptedLinear, ThreadsChangeNothing) {
  const Case c = {"", 300, 128, {{450, 8, true, false}, {64, 8, true, true}}};
  std::vector<Tensor> given;
  for (const Tensor& t : inputs(c)) given.push_back(t.to(at::kFloat));
  const Operation run = operation(c, at::kBFloat16, ops::adapted_linears);
  const int before = at::get_num_threads();
  const Evaluation first = evaluate(run, given, types(c, at::kBFloat16));
  at::set_num_threads(before == 1 ? 2 : 1);
  const Evaluation second = evaluate(run, given, types(c, at::kBFloat16));
  at::set_num_threads(before);
  for (size_t i = 0; i < given.size(); ++i)
    EXPECT_TRUE(at::equal(first.gradients[i], second.gradients[i])) << i;
}

/// What is kept of factors is made anew once they, or the scale, are others.
TEST(AdaptedLinear, SeesNewFactors) {
  const at::NoGradGuard no_grad;
  const Tensor x = normal({3, 32}, 1).to(at::kBFloat16), a = normal({4, 32}, 2).to(at::kFloat),
               b = normal({16, 4}, 3).to(at::kFloat);
  ops::AdaptedLinear map{.weight = normal({16, 32}, 4).to(at::kBFloat16)};
  ops::PackedWeight weight;
  ops::PackedLowRank factors;
  map.packed = &weight;
  map.update = ops::LowRankUpdate{.a = a, .b = b, .scale = 1, .packed = &factors};
  const auto expect_right = [&](const char* what) {
    expect_close(ops::adapted_linears(x, {map})[0], ops::adapted_linears_plain(x, {map})[0],
                 tolerance(at::kBFloat16), what);
  };
  expect_right("first");
  expect_right("again");
  a.mul_(-3);
  expect_right("A was written to");
  map.update->scale = 7;
  expect_right("another scale");
  map.update->b = b * 2;
  expect_right("another B");
}

/// In 8 bits maps give what each gives by itself, few rows' updates too, which join their outputs early.
TEST(AdaptedLinears, InEightBitsAreEachAsAlone) {
  each_form([](at::ScalarType type) {
    for (const int64_t rows : {1, 7, 16, 40}) {
      for (const bool gradient : {false, true}) {
        const at::AutoGradMode mode(gradient);
        const Tensor x = normal({rows, 64}, 1).to(type).requires_grad_(gradient),
                     own = normal({rows, 64}, 2).to(type);
        std::vector<ops::PackedInt8> packed(4), alone(4);
        std::vector<ops::PackedLowRank> factors(4);
        std::vector<ops::AdaptedLinear> maps(4);
        for (size_t i = 0; i < maps.size(); ++i) {
          const int64_t out = 62 + 60 * static_cast<int64_t>(i), r = 3 + 8 * static_cast<int64_t>(i);
          maps[i].weight = normal({out, 64}, 10 + i).to(type);
          if (i % 2 == 0) maps[i].bias = normal({out}, 20 + i).to(type);
          if (i != 2) maps[i].int8 = &packed[i];
          if (i == 1) continue;
          maps[i].update = {.a = normal({r, 64}, 30 + i, at::kFloat),
                            .b = normal({out, r}, 40 + i, at::kFloat),
                            .scale = 0.5,
                            .packed = &factors[i]};
          if (i == 3) maps[i].update->in = own;
        }
        // Without the third one all are in 8 bits.
        for (const bool all : {true, false}) {
          if (all) std::swap(maps[2], maps[3]);
          const size_t count = all ? 3 : 4;
          const std::vector<Tensor> ys =
              ops::adapted_linears(x, {maps.begin(), maps.begin() + static_cast<std::ptrdiff_t>(count)});
          if (all) std::swap(maps[2], maps[3]);
          for (size_t k = 0; k < count; ++k) {
            const size_t i = all && k == 2 ? 3 : k;
            const ops::AdaptedLinear& map = maps[i];
            ops::PackedWeight whole;
            Tensor y = map.int8 ? ops::int8_linear(x, map.weight, map.bias, alone[i])
                                : ops::frozen_linear(x, map.weight, map.bias, whole);
            if (map.update)
              y = ops::low_rank_add(y, i == 3 ? own : x, map.update->a, map.update->b, map.update->scale);
            EXPECT_TRUE(at::equal(ys[k], y)) << rows << " rows, map " << i << (gradient ? ", gradient" : "");
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace graft::test
