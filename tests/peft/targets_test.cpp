// PEFT's matching of module paths, and the draws that its files rely on.
#include "graft/peft/targets.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/peft/default_targets.h"
#include "graft/peft/fourierft.h"
#include "graft/peft/lokr.h"
#include "graft/peft/vera.h"
#include "tests/models/tiny.h"

namespace graft::test {
namespace {

std::vector<std::string> found(const TargetRules& rules) {
  const auto model = tiny_model(tiny_models()[2]);  // llama
  std::vector<std::string> paths;
  for (const auto& [path, linear] : find_targets(*model, rules).linears) paths.push_back(path);
  return paths;
}

TargetRules targets(const Json& modules) {
  TargetRules rules;
  rules.target_modules = modules;
  return rules;
}

TEST(Targets, NamesMatchAfterADot) {
  EXPECT_EQ(found(targets({"q_proj"})).size(), 2u);
  EXPECT_EQ(found(targets({"self_attn.q_proj", "down_proj"})).size(), 4u);
  EXPECT_THROW(found(targets({"_proj"})), UsageError);
}

TEST(Targets, AStringIsARegularExpressionOverTheWholePath) {
  EXPECT_EQ(found(targets(".*\\.1\\..*(q|v)_proj")).size(), 2u);
  EXPECT_THROW(found(targets("q_proj")), UsageError);
  EXPECT_EQ(found(targets("(?P<any>.*)q_proj")).size(), 2u);  // Python's named group
  EXPECT_THROW(found(targets("(")), UsageError);
}

TEST(Targets, AllLinearLeavesTheHeadOut) {
  for (const std::string& path : found(targets("all-linear")))
    EXPECT_EQ(path.find("lm_head"), std::string::npos);
  EXPECT_EQ(found(targets("ALL-LINEAR")).size(), 14u);
}

TEST(Targets, LayersAndExcludes) {
  TargetRules rules = targets({"q_proj", "v_proj"});
  rules.layers_to_transform = 1;
  EXPECT_EQ(found(rules),
            (std::vector<std::string>{"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"}));
  rules.layers_pattern = "layers";
  EXPECT_EQ(found(rules).size(), 2u);
  rules.exclude_modules = Json({"v_proj"});
  EXPECT_EQ(found(rules).size(), 1u);
  TargetRules all = targets("all-linear");
  all.layers_to_transform = Json({0});
  EXPECT_EQ(found(all).size(), 7u);
  TargetRules regex = targets(".*q_proj");
  regex.layers_to_transform = Json({0});
  EXPECT_THROW(found(regex), UsageError);
}

TEST(Targets, NamesThatFitNothingAreFound) {
  const auto model = tiny_model(tiny_models()[2]);
  const Json names = {"q_proj", "self_attn.v_proj", "q_prj", "model.layers.1.mlp", "mlp.q_proj"};
  EXPECT_EQ(unmatched_names(*model, names), (std::vector<std::string>{"q_prj", "mlp.q_proj"}));
  EXPECT_TRUE(unmatched_names(*model, "all-linear").empty());
}

TEST(Targets, WhatIsSavedWholeIsNoTarget) {
  TargetRules rules = targets({"q_proj"});
  rules.modules_to_save = {"self_attn"};
  EXPECT_THROW(found(rules), UsageError);
}

TEST(Targets, PatternsMatchAnEndingAndTheFirstCounts) {
  const Json patterns = {{".*\\.0\\..*q_proj", 2}, {"q_proj", 3}};
  EXPECT_EQ(pattern_value("model.layers.0.self_attn.q_proj", patterns, 8, "rank_pattern"), 2);
  EXPECT_EQ(pattern_value("model.layers.1.self_attn.q_proj", patterns, 8, "rank_pattern"), 3);
  EXPECT_EQ(pattern_value("model.layers.1.self_attn.my_q_proj", patterns, 8, "rank_pattern"), 8);
}

TEST(Targets, TwentyNamesAreShortened) {
  const auto model = tiny_model(tiny_models()[2]);
  Targets few = find_targets(*model, targets("all-linear"));
  EXPECT_EQ(resolved_targets(*model, few).size(), 14u);
  Targets many = few;
  while (many.linears.size() < 20) many.linears.push_back(few.linears[0]);
  EXPECT_EQ(resolved_targets(*model, many).size(), 14u);  // counted as different names
}

TEST(DefaultTargets, AreTheTables) {
  EXPECT_EQ(default_targets(TargetColumn::lora, "bert"), (std::vector<std::string>{"query", "value"}));
  EXPECT_EQ(default_targets(TargetColumn::fourierft, "gpt2"), (std::vector<std::string>{"mlp.c_proj"}));
  EXPECT_EQ(default_targets(TargetColumn::vblora, "roberta"), (std::vector<std::string>{"query", "value"}));
  EXPECT_EQ(default_targets(TargetColumn::vblora, "t5").size(), 6u);
  EXPECT_TRUE(default_targets(TargetColumn::ia3_feedforward, "mt5").empty());
  EXPECT_THROW(default_targets(TargetColumn::ln_tuning, "bert"), UsageError);
  EXPECT_THROW(default_targets(TargetColumn::lora, "phi3"), UsageError);
}

// torch 2.15's own numbers.
TEST(Draws, AreTorchs) {
  EXPECT_TRUE(first_of_permutation(1024, 8, 777)
                  .equal(at::tensor({103, 249, 319, 701, 999, 360, 217, 998}, at::kLong)));
  const auto [a, b] = vera_projections(0, 2, 4, 3);
  EXPECT_TRUE(a.allclose(at::tensor({-0.00916945, 0.65700656, -1.00802040, -0.90133756, -0.47171584,
                                     0.32842436, -0.02426609, 0.97108734})
                             .view({2, 4})
                             .to(at::kFloat),
                         0, 1e-7));
  EXPECT_TRUE(
      b.allclose(at::tensor({-0.15370919, 0.45832238, -0.52344841, -0.34046122, -1.65471208, -1.14710629})
                     .view({3, 2})
                     .to(at::kFloat),
                 0, 1e-6));
}

TEST(Lokr, FactorsAreAsEvenAsMayBe) {
  using Pair = std::pair<int64_t, int64_t>;
  EXPECT_EQ(lokr_factors(768, -1), (Pair{24, 32}));
  EXPECT_EQ(lokr_factors(3072, -1), (Pair{48, 64}));
  EXPECT_EQ(lokr_factors(4096, -1), (Pair{64, 64}));
  EXPECT_EQ(lokr_factors(11008, -1), (Pair{86, 128}));
  EXPECT_EQ(lokr_factors(127, -1), (Pair{1, 127}));
  EXPECT_EQ(lokr_factors(128, 4), (Pair{4, 32}));
}

}  // namespace
}  // namespace graft::test
