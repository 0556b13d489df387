// Every method over frozen maps in 8 bits.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/peft/merged_weights.h"
#include "tests/peft/methods.h"

namespace graft::test {
namespace {

class MethodsInt8 : public ::testing::TestWithParam<MethodRow> {
 protected:
  static const Tiny& tiny(const std::string& name) {
    return *std::find_if(tiny_models().begin(), tiny_models().end(),
                         [&](const Tiny& one) { return one.name == name; });
  }
  static std::unique_ptr<Model> rounded(const Model& exact) {
    return load_model({"memory", exact.config, model_tensors(exact, at::kFloat)}, {.int8 = true});
  }
  static bool refuses(const std::string& name) {
    const std::string type = name.substr(0, name.find('_'));
    const auto& list = GetParam().refuses;
    return std::any_of(list.begin(), list.end(),
                       [&](const std::string& one) { return one == type || one == name; });
  }
};

/// Values near float32's, a gradient for every trained tensor, and merged weights that never saw the
/// rounding.
TEST_P(MethodsInt8, IsNearFloat32AndMergesTheCheckpointsOwnWeights) {
  for (const char* name : {"llama", "bert_seqcls"}) {
    if (refuses(name)) continue;
    const auto exact = tiny_model(tiny(name)), narrow = rounded(*exact);
    if (std::string(GetParam().name) == "full") {
      EXPECT_THROW(fresh_adapter(GetParam(), *narrow), UsageError);
      continue;
    }
    const Adapter of_exact = fresh_adapter(GetParam(), *exact),
                  of_narrow = fresh_adapter(GetParam(), *narrow);
    move_tensors(of_exact, 0.05), move_tensors(of_narrow, 0.05);
    attach(of_exact, *exact), attach(of_narrow, *narrow);
    const Batch batch = batch_of(*exact, {some_text(1, 6), some_text(2, 3), some_text(3, 5)});
    const Tensor wanted = answer(*exact, &of_exact, batch), got = answer(*narrow, &of_narrow, batch);
    // As Int8.EveryFamilyIsNearFloat32: untrained maps of 24 numbers a row.
    EXPECT_LT(((got - wanted).norm() / wanted.norm()).item<double>(), 0.2) << name;
    got.square().sum().backward();
    for (const auto& [key, tensor] : of_narrow.trained) {
      ASSERT_TRUE(tensor.grad().defined()) << key;
      EXPECT_TRUE(at::isfinite(tensor.grad()).all().item<bool>()) << key;
    }
    detach(*exact), detach(*narrow);
    if (!GetParam().merges) continue;
    merge(of_exact, *exact), merge(of_narrow, *narrow);
    const auto expected = exact->named_parameters();
    const auto merged = narrow->named_parameters();
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_TRUE(merged[i].second->base.equal(expected[i].second->base)) << expected[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, MethodsInt8, testing::ValuesIn(method_rows()),
                         [](const auto& given) { return std::string(given.param.name); });

}  // namespace
}  // namespace graft::test
