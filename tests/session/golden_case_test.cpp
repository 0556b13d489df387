// Reference cases pass as they are, and fail as soon as something in them is wrong.
#include "graft/session/golden_case.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

namespace fs = std::filesystem;

fs::path reference() { return fs::path(GRAFT_SOURCE_DIR) / "tests" / "reference"; }

/// A copy of a reference case beside its model, to be spoilt.
class Case {
 public:
  explicit Case(const std::string& name) {
    const fs::path cases = folder_.path() / "cases";
    fs::create_directories(cases);
    fs::copy(reference() / "cases" / name, cases / name, fs::copy_options::recursive);
    fs::copy(reference() / "models", folder_.path() / "models", fs::copy_options::recursive);
    path_ = cases / name;
  }
  const fs::path& path() const { return path_; }
  TensorMap expected() const {
    TensorMap out;
    for (const auto& [key, tensor] : read_safetensors(path_ / "expected.safetensors"))
      out[key] = tensor.clone();
    return out;
  }
  void expect(const TensorMap& tensors) const { write_safetensors(path_ / "expected.safetensors", tensors); }

 private:
  TemporaryFolder folder_;
  fs::path path_;
};

std::string first_case() {
  std::string first;
  for (const auto& entry : fs::directory_iterator(reference() / "cases")) {
    const std::string name = entry.path().filename().string();
    if (name.find("lora") != std::string::npos && (first.empty() || name < first)) first = name;
  }
  return first;
}

TEST(GoldenCase, PassesAsItIs) {
  const Case one(first_case());
  const CaseReport report = run_case(one.path());
  EXPECT_TRUE(report.problems.empty()) << report.worst << " " << report.share;
  EXPECT_LT(report.share, 0.5);
  EXPECT_EQ(report.computed.size(), one.expected().size());
}

TEST(GoldenCase, EachPerturbedTensorFails) {
  const Case one(first_case());
  const TensorMap expected = one.expected();
  std::set<std::string> kinds;
  for (const auto& [key, tensor] : expected) {
    if (!tensor.is_floating_point() || !kinds.insert(key.substr(0, key.find('.'))).second) continue;
    TensorMap spoilt = expected;
    spoilt[key] = tensor + 0.01 * tensor.abs().max();  // one percent of the largest value
    one.expect(spoilt);
    const CaseReport report = run_case(one.path());
    EXPECT_EQ(report.problems.size(), 1u) << key;
    EXPECT_EQ(report.worst, key);
  }
  EXPECT_GE(kinds.size(), 4u);
}

TEST(GoldenCase, AnUnknownNameIsAnError) {
  const Case one(first_case());
  TensorMap expected = one.expected();
  expected["logitz"] = at::zeros({1});
  one.expect(expected);
  EXPECT_NE(message_of<DataError>([&] { run_case(one.path()); }).find("logitz"), std::string::npos);
}

TEST(GoldenCase, AMissingFileIsAnError) {
  const Case one(first_case());
  fs::remove(one.path() / "expected.safetensors");
  EXPECT_THROW(run_case(one.path()), DataError);
}

TEST(GoldenCase, ToleranceSharesAreThoseOfTheReferenceSet) {
  const Tensor expected = at::full({2}, 2.0);
  // 1e-5 + 1e-5 · 2 is allowed for logits.
  EXPECT_NEAR(tolerance_share("logits", expected + 1.5e-5, expected), 0.5, 0.02);
  EXPECT_NEAR(tolerance_share("after.x", expected + 3e-4, expected), 0.5, 0.01);
  EXPECT_EQ(tolerance_share("generate.ids", at::tensor({1, 2}), at::tensor({1, 3})),
            std::numeric_limits<double>::infinity());
  const Tensor open = at::tensor({2.0F, std::nanf("")});
  EXPECT_EQ(tolerance_share("logits", at::tensor({2.0F, 7.0F}), open), 0);
  EXPECT_EQ(tolerance_share("logits", at::tensor({std::nanf(""), 7.0F}), open),
            std::numeric_limits<double>::infinity());
  EXPECT_EQ(tolerance_share("logits", at::zeros({3}), expected), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace graft::test
