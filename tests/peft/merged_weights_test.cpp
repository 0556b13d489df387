// Merged weights as a checkpoint's file has them, made one at a time.
#include "graft/peft/merged_weights.h"

#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "tests/peft/methods.h"

namespace graft {
namespace {

/// Of LoRA on all linears, no tensor as it starts.
Adapter moved_adapter(Model& model, const char* config, uint64_t seed) {
  const Json document = parse_json(config, "config");
  Adapter adapter = tuning_method("lora").create(document, model, seed);
  test::move_tensors(adapter);
  return adapter;
}

constexpr const char* kAllLinears =
    R"({"name": "lora", "r": 4, "lora_alpha": 6, "target_modules": "all-linear"})";
constexpr const char* kSomeLinears =
    R"({"name": "lora", "r": 3, "use_rslora": true, "target_modules": ["q_proj", "down_proj"]})";

/// By path; float64 is the plain form.
TensorMap values(const std::vector<WeightedAdapter>& parts, Model& model, at::ScalarType type) {
  MergedWeights merged(parts, model, type);
  TensorMap out;
  for (const std::string& path : merged.paths()) out[path] = merged.value(path);
  EXPECT_LT(merged.largest_difference(), 1e-4);
  return out;
}

TEST(MergedWeights, OfAFilesTypeAreTheExactOnesRoundedOnce) {
  const auto model = test::tiny_model(test::tiny_models()[2]);
  for (const auto& [path, parameter] : model->named_parameters(true))
    parameter->base = parameter->base.to(at::kBFloat16);
  const Adapter all = moved_adapter(*model, kAllLinears, 1), some = moved_adapter(*model, kSomeLinears, 2);
  const std::vector<WeightedAdapter> parts{{&all, 1}, {&some, -0.5}};
  const TensorMap exact = values(parts, *model, at::kDouble), half = values(parts, *model, at::kBFloat16);
  ASSERT_EQ(half.size(), exact.size());
  ASSERT_GT(half.size(), 8u);
  for (const auto& [path, value] : half) {
    EXPECT_EQ(value.scalar_type(), at::kBFloat16) << path;
    const Tensor error = (value.to(at::kDouble) - exact.at(path)).abs();
    EXPECT_TRUE(error.le(exact.at(path).abs() * (1.001 / 256) + 1e-6).all().item<bool>()) << path;
  }
}

TEST(MergedWeights, NameTheMapWhoseValuesAreNotFinite) {
  const auto model = test::tiny_model(test::tiny_models()[2]);
  const Adapter adapter = moved_adapter(*model, kAllLinears, 1);
  MergedWeights merged({{&adapter, 1}}, *model, at::kFloat);
  const std::string path = *merged.paths().begin();
  for (const auto& [other, parameter] : model->named_parameters(true)) {
    if (other == path) parameter->base.view(-1)[3] = INFINITY;
  }
  try {
    merged.value(path);
    FAIL() << path;
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(path.substr(0, path.rfind('.'))), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace graft
