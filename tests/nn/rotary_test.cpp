// Rotary positions: what config.json's settings mean as frequencies, which of them are refused, and which
// table a pass gets.
#include "graft/nn/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "graft/base/error.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

RotaryConfig of(const char* text) { return RotaryConfig::read(parse_json(text, "config.json")); }

void expect_frequencies(const RotaryConfig& config, int64_t reach, const std::vector<double>& wanted) {
  const auto dim = 2 * static_cast<int64_t>(wanted.size());
  const Tensor got = config.inverse_frequencies(dim, config.frequency_length(reach)).to(at::kDouble);
  // float32 has seven digits; three operations.
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(got[static_cast<int64_t>(i)].item<double>() / wanted[i], 1, 5e-7) << "frequency " << i;
}

TEST(RotaryConfig, BothLayoutsMeanTheSame) {
  const auto older = of(R"({"rope_theta": 5000.0, "max_position_embeddings": 64,
      "rope_scaling": {"type": "linear", "factor": 2.0}})");
  const auto newer = of(R"({"max_position_embeddings": 64,
      "rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}})");
  EXPECT_TRUE(at::equal(older.inverse_frequencies(8, 0), newer.inverse_frequencies(8, 0)));
  // 5000^(-2/8) / 2
  EXPECT_NEAR(older.inverse_frequencies(8, 0)[1].item<double>(), 0.0594604, 1e-6);
}

TEST(RotaryConfig, Llama3KeepsShortWavesAndStretchesLongOnes) {
  auto config = of(R"({"max_position_embeddings": 131072, "rope_theta": 500000, "rope_scaling": {
      "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 8192}})");
  const Tensor scaled = config.inverse_frequencies(128, 0);
  config.type = "default";
  const Tensor plain = config.inverse_frequencies(128, 0);
  EXPECT_EQ(scaled[0].item<float>(), plain[0].item<float>());
  EXPECT_NEAR((plain[63] / scaled[63]).item<double>(), 8, 1e-5);
  EXPECT_TRUE((scaled <= plain).all().item<bool>());
}

/// Waves of more than 32 turns in 4096 positions are kept, of less than one are stretched: with base 10000 in
/// 64 dimensions the pairs up to 64 ln(4096 / 64π) / (2 ln 10000) = 10.47, and from 22.51 on.
TEST(RotaryConfig, YarnStretchesLongWaves) {
  const auto config = of(R"({"max_position_embeddings": 16384, "rope_scaling": {"type": "yarn", "factor": 4.0,
      "original_max_position_embeddings": 4096, "finetuned": true}})");
  std::vector<double> wanted;
  for (int i = 0; i < 32; ++i) {
    const double plain = std::pow(10000.0, -i / 32.0);
    const double ramp = std::clamp((i - 10) / 13.0, 0.0, 1.0);
    wanted.push_back(plain / 4 * ramp + plain * (1 - ramp));
  }
  expect_frequencies(config, 1, wanted);
  expect_frequencies(config, 16384, wanted);
  EXPECT_DOUBLE_EQ(config.attention_factor, 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(config.longest(), 16384);
  EXPECT_EQ(config.switch_length(), 0);
}

TEST(RotaryConfig, YarnsSettings) {
  const auto with = [](const char* more) {
    return of(fmt::format(R"({{"max_position_embeddings": 4096, "rope_scaling": {{"type": "yarn",
        "factor": 4.0{}}}}})",
                          more)
                  .c_str());
  };
  const RotaryConfig plain = with("");
  EXPECT_EQ(plain.original_max_positions, 4096);
  EXPECT_EQ(plain.longest(), 4 * 4096);
  EXPECT_DOUBLE_EQ(with(R"(, "attention_factor": 0.5)").attention_factor, 0.5);
  EXPECT_DOUBLE_EQ(with(R"(, "mscale": 2.0)").attention_factor, plain.attention_factor);
  EXPECT_DOUBLE_EQ(with(R"(, "mscale": 2.0, "mscale_all_dim": 0.5)").attention_factor,
                   (0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1));
  EXPECT_TRUE(
      at::equal(with(R"(, "beta_fast": 0)").inverse_frequencies(64, 0), plain.inverse_frequencies(64, 0)));
  for (const char* other : {R"(, "beta_fast": 8)", R"(, "beta_slow": 4)", R"(, "truncate": false)",
                            R"(, "original_max_position_embeddings": 512)"}) {
    EXPECT_FALSE(at::equal(with(other).inverse_frequencies(64, 0), plain.inverse_frequencies(64, 0)))
        << other;
  }
}

/// Base 10000 (2 · 24 / 16 - 1)^(8 / 6) for 24 positions where 16 were trained.
TEST(RotaryConfig, DynamicHasALargerBaseForLongerPasses) {
  const auto config =
      of(R"({"max_position_embeddings": 16, "rope_scaling": {"type": "dynamic", "factor": 2.0}})");
  const auto frequencies = [](double base) {
    return std::vector<double>{1, std::pow(base, -0.25), std::pow(base, -0.5), std::pow(base, -0.75)};
  };
  expect_frequencies(config, 16, frequencies(10000));
  expect_frequencies(config, 24, frequencies(10000 * std::pow(2.0, 4.0 / 3)));
  expect_frequencies(config, 3, frequencies(10000));
  EXPECT_EQ(config.longest(), 32);
  EXPECT_EQ(config.attention_factor, 1);
}

TEST(RotaryConfig, LongropeHasItsStretchesByTheLength) {
  const char* const text = R"({"max_position_embeddings": 64, "original_max_position_embeddings": 16,
      "rope_scaling": {"type": "su", "short_factor": [1, 2], "long_factor": [4, 8]}})";
  const auto config = of(text);
  expect_frequencies(config, 16, {1, 0.01 / 2});
  expect_frequencies(config, 17, {1 / 4.0, 0.01 / 8});
  EXPECT_DOUBLE_EQ(config.attention_factor, std::sqrt(1.5));  // √(1 + ln 4 / ln 16)
  EXPECT_EQ(config.switch_length(), 16);
  EXPECT_EQ(config.longest(), 64);
}

TEST(RotaryConfig, LongropesSettings) {
  const auto with = [](const char* inside, const char* outside) {
    return of(fmt::format(R"({{"max_position_embeddings": 64, {} "rope_parameters": {{"rope_type": "longrope",
        "short_factor": [1], "long_factor": [2], {} "rope_theta": 100.0}}}})",
                          outside, inside)
                  .c_str());
  };
  const RotaryConfig plain = with("", "");
  EXPECT_EQ(plain.original_max_positions, 64);
  EXPECT_EQ(plain.attention_factor, 1);
  const RotaryConfig given = with(R"("factor": 4, "original_max_position_embeddings": 16,)", "");
  EXPECT_DOUBLE_EQ(given.attention_factor, std::sqrt(1.5));
  EXPECT_EQ(with(R"("attention_factor": 1.25, "factor": 4,)", "").attention_factor, 1.25);
  const char* const inside = R"("original_max_position_embeddings": 32,)";
  EXPECT_EQ(with(inside, "").original_max_positions, 32);
  EXPECT_EQ(with(inside, R"("original_max_position_embeddings": 8,)").original_max_positions, 8);
}

TEST(RotaryConfig, WrongSettingsAreNamed) {
  const auto refused = [](const char* rope, const char* part) {
    const std::string text =
        fmt::format(R"({{"max_position_embeddings": 64, "rope_scaling": {{{}}}}})", rope);
    const std::string error = message_of<DataError>([&] { of(text.c_str()); });
    EXPECT_NE(error.find(part), std::string::npos) << rope << ": " << error;
  };
  refused(R"("type": "yran", "factor": 2)",
          "rope_type yran is not implemented, expected default, linear, dynamic");
  refused(R"("type": "yarn", "factor": 2, "beta_fats": 2)", "beta_fats");
  refused(R"("type": "yarn")", "rope_type yarn without factor, expected how many times longer");
  refused(R"("type": "dynamic")", "rope_type dynamic without factor");
  refused(R"("type": "linear")", "rope_type linear without factor");
  refused(R"("type": "dynamic", "factor": 0.5)", "rope_type dynamic with factor 0.5, expected at least 1");
  refused(R"("type": "yarn", "factor": 0.5)", "rope_type yarn with factor 0.5, expected at least 1");
  refused(R"("type": "linear", "factor": 0)", "rope_type linear with factor 0, expected above 0");
  refused(R"("type": "yarn", "factor": 2, "original_max_position_embeddings": 0)",
          "original_max_position_embeddings 0, expected the trained length, 1 to 2147483647");
  refused(R"("type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2)", "beta_fast 1, beta_slow 2");
  refused(R"("type": "yarn", "factor": 2, "rope_theta": 1)", "rope_theta 1, expected above 1");
  refused(R"("type": "yarn", "factor": 2, "attention_factor": -1)", "attention_factor -1, expected above 0");
  refused(R"("type": "yarn", "factor": 2, "mscale": -90, "mscale_all_dim": 1)", "expected above 0");
  refused(R"("type": "yarn", "factor": 2, "truncate": "no")", "truncate");
  refused(R"("type": "longrope", "long_factor": [1])",
          "rope_type longrope without short_factor, expected a number for two");
  refused(R"("type": "longrope", "short_factor": [1, 0], "long_factor": [1, 1])",
          "short_factor[1] 0, expected above 0");
  refused(R"("type": "longrope", "short_factor": [1], "long_factor": [1],
             "original_max_position_embeddings": 1)",
          "2 to 2147483647");
}

TEST(Rotary, SettingsThatDoNotFitAHead) {
  const auto config = of(R"({"max_position_embeddings": 64, "rope_scaling": {"type": "longrope",
      "short_factor": [1, 1], "long_factor": [1, 1, 1]}})");
  const std::string error = message_of<DataError>([&] { Rotary(config, 4); });
  EXPECT_NE(error.find("long_factor has 3 numbers, expected 2"), std::string::npos) << error;
  EXPECT_THROW(Rotary(config, 6), DataError);
  const auto dynamic = of(R"({"max_position_embeddings": 64, "partial_rotary_factor": 0.25,
      "rope_scaling": {"type": "dynamic", "factor": 2}})");
  EXPECT_THROW(Rotary(dynamic, 8), DataError);
  EXPECT_NO_THROW(Rotary(dynamic, 16));
}

TEST(Rotary, TheTableGrowsWithThePositions) {
  const Rotary rotary({}, 4);
  const Tensor x = at::ones({4, 1, 4});
  const Layout near = Layout::of({4}), far = Layout::of({4}, {5000});
  const Tensor before = ops::rope(x, near.positions, rotary.table(near));
  EXPECT_TRUE(at::equal(before[0], x[0]));
  // cos 3 - sin 3, from the halves (i, i + 2)
  EXPECT_NEAR(before[3][0][0].item<double>(), -1.1311125, 1e-6);
  EXPECT_TRUE(ops::rope(x, far.positions, rotary.table(far)).isfinite().all().item<bool>());
  EXPECT_TRUE(at::equal(ops::rope(x, near.positions, rotary.table(near)), before));
}

TEST(Rotary, TheAttentionFactorIsInTheTable) {
  const auto config = of(R"({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4,
      "attention_factor": 0.5}})");
  const Rotary rotary(config, 4);
  const ops::RopeTable& table = rotary.table(Layout::of({3}));
  EXPECT_EQ(table.cos[0][0].item<float>(), 0.5F);
  EXPECT_NEAR(table.sin[2][0].item<double>(), std::sin(2.0) / 2, 1e-6);
}

/// The longest position of the pass decides, for all sequences; what was read before does not.
TEST(Rotary, ATableIsAFunctionOfItsPass) {
  for (const char* rope : {R"("dynamic", "factor": 4)", R"("longrope", "short_factor": [1, 2], "factor": 4,
      "long_factor": [3, 5])"}) {
    const auto config =
        of(fmt::format(R"({{"max_position_embeddings": 16, "rope_scaling": {{"type": {}}}}})", rope).c_str());
    const Rotary rotary(config, 4);
    const auto angles = [&](const Layout& layout) {
      return rotary.table(layout).sin.slice(0, 0, 16).clone();
    };
    const Tensor near = angles(Layout::of({16}));
    const Tensor far = angles(Layout::of({3, 17}));
    EXPECT_FALSE(at::equal(near, far)) << rope;
    EXPECT_TRUE(at::equal(angles(Layout::of({1}, {16})), far)) << rope;
    EXPECT_EQ(at::equal(angles(Layout::of({300})), far), config.type == "longrope");
    EXPECT_TRUE(at::equal(angles(Layout::of({3, 17})), far)) << rope;
    EXPECT_TRUE(at::equal(angles(Layout::of({16, 2})), near)) << rope;
  }
}

}  // namespace
}  // namespace graft::test
