// Every method, every family, every law.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/ops/adamw.h"
#include "tests/peft/methods.h"
#include "tests/temporary.h"

namespace graft::test {
namespace {

using Cell = std::tuple<MethodRow, Tiny>;

std::string cell_name(const ::testing::TestParamInfo<Cell>& info) {
  return std::string(std::get<0>(info.param).name) + "_on_" + std::get<1>(info.param).name;
}

std::string type_of(const Tiny& tiny) { return tiny.name.substr(0, tiny.name.find('_')); }

class Matrix : public ::testing::TestWithParam<Cell> {
 protected:
  void SetUp() override {
    const std::string type = type_of(tiny());
    for (const std::string& refused : row().refuses) {
      if (refused == type || refused == tiny().name) refused_ = true;
    }
    model_ = tiny_model(tiny());
  }
  const MethodRow& row() const { return std::get<0>(GetParam()); }
  const Tiny& tiny() const { return std::get<1>(GetParam()); }
  Batch batch() const { return batch_of(*model_, {some_text(1, 6), some_text(2, 3), some_text(3, 5)}); }
  /// The base's tensors, copied.
  TensorMap base() const {
    TensorMap out;
    for (const auto& [path, parameter] : model_->named_parameters()) out[path] = parameter->base.clone();
    return out;
  }
  void expect_base(const TensorMap& before) const {
    for (const auto& [path, parameter] : model_->named_parameters()) {
      EXPECT_TRUE(parameter->base.equal(before.at(path))) << path;
      EXPECT_TRUE(parameter->frozen()) << path;
    }
  }
  /// In float64, where finite differences are exact enough.
  void widen() {
    model_->dtype = at::kDouble;
    for (const auto& [path, parameter] : model_->named_parameters())
      parameter->base = parameter->base.to(at::kDouble);
  }

  std::unique_ptr<Model> model_;
  bool refused_ = false;
};

/// Where a law says nothing, the test says so for the table (tests/peft/print_matrix).
#define GRAFT_APPLIES()                                      \
  if (refused_) {                                            \
    EXPECT_THROW(fresh_adapter(row(), *model_), UsageError); \
    RecordProperty("cell", "refused");                       \
    return;                                                  \
  }

TEST_P(Matrix, FreshAdapterIsTheIdentity) {
  GRAFT_APPLIES();
  const Tensor plain = answer(*model_, nullptr, batch());
  const Adapter adapter = fresh_adapter(row(), *model_);
  attach(adapter, *model_);
  const Tensor fresh = answer(*model_, &adapter, batch());
  if (row().identity) {
    // Sums in another order only.
    EXPECT_LT(largest_difference(plain, fresh), 2e-5 * std::max(1.0, plain.abs().max().item<double>()));
  } else {
    EXPECT_GT(largest_difference(plain, fresh), 1e-6);
  }
}

TEST_P(Matrix, TrainingMovesEveryAdapterTensorAndNoBaseTensor) {
  GRAFT_APPLIES();
  const TensorMap before = base();
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  TensorMap start;
  for (const auto& [key, tensor] : adapter.trained) start[key] = tensor.detach().clone();
  answer(*model_, &adapter, batch()).square().sum().backward();
  for (auto [key, tensor] : adapter.trained) {
    ASSERT_TRUE(tensor.grad().defined()) << key;
    Tensor average = at::zeros_like(tensor), square = at::zeros_like(tensor);
    const at::NoGradGuard no_grad;
    ops::adamw_step(tensor, tensor.grad(), average, square, 1, {.learning_rate = 0.01});
    EXPECT_FALSE(tensor.equal(start.at(key))) << key;
  }
  detach(*model_);
  expect_base(before);
}

/// One family of each kind: differences cost hundreds of passes, and what is under the hooks is tested with
/// LoRA everywhere.
bool differentiates(const MethodRow& row, const Tiny& tiny) {
  if (!row.exact_gradient) return false;
  for (const char* name : {"bert_seqcls", "llama", "gpt2", "t5"}) {
    if (tiny.name == name) return true;
  }
  return std::string(row.name) == "lora";
}

TEST_P(Matrix, GradientsEqualFiniteDifferences) {
  GRAFT_APPLIES();
  if (!differentiates(row(), tiny())) return RecordProperty("cell", "left out");
  widen();
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter, 0.05);
  attach(adapter, *model_);
  const Batch rows = batch();
  const Tensor weights = at::sin(at::arange(answer(*model_, &adapter, rows).numel(), at::kDouble));
  const auto value = [&] { return (answer(*model_, &adapter, rows).flatten() * weights).sum(); };
  value().backward();
  for (auto [key, tensor] : adapter.trained) {
    ASSERT_EQ(tensor.scalar_type(), at::kDouble) << key;
    const at::NoGradGuard no_grad;
    Tensor flat = tensor.view(-1);
    for (const int64_t i : {tensor.numel() / 3, tensor.numel() - 1}) {
      const double kept = flat[i].item<double>();
      const double gradient = tensor.grad().defined() ? tensor.grad().view(-1)[i].item<double>() : 0;
      const auto difference = [&](double step) {
        flat[i] = kept + step;
        const double above = value().item<double>();
        flat[i] = kept - step;
        const double below = value().item<double>();
        flat[i] = kept;
        return (above - below) / (2 * step);
      };
      // The differences' own error: third derivatives times step², rounding over step.
      const auto tolerance = [](double expected) { return 1e-5 * std::max(1.0, std::abs(expected)); };
      double expected = difference(1e-5);
      // A step may cross the kink of a ReLU (T5's); a hundredth of it does not, and is worse elsewhere.
      if (std::abs(gradient - expected) > tolerance(expected)) expected = difference(1e-7);
      EXPECT_NEAR(gradient, expected, tolerance(expected)) << key << "[" << i << "]";
    }
  }
}

TEST_P(Matrix, DetachRestoresTheBaseBitForBit) {
  GRAFT_APPLIES();
  const TensorMap before = base();
  const Tensor plain = answer(*model_, nullptr, batch());
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  EXPECT_GT(largest_difference(answer(*model_, &adapter, batch()), plain), 1e-4);
  detach(*model_);
  EXPECT_TRUE(answer(*model_, nullptr, batch()).equal(plain));
  expect_base(before);
}

TEST_P(Matrix, MergeEqualsAttach) {
  GRAFT_APPLIES();
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  const Tensor attached = answer(*model_, &adapter, batch());
  const bool outside = adapter.input || !adapter.linears.empty() || !adapter.sublayers.empty();
  if (!row().merges && outside) {
    EXPECT_THROW(merge(adapter, *model_), UsageError);
    return;
  }
  merge(adapter, *model_);
  // float32 sums of W + ΔW against W x + ΔW x.
  EXPECT_LT(largest_difference(answer(*model_, nullptr, batch()), attached),
            2e-5 * std::max(1.0, attached.abs().max().item<double>()));
}

TEST_P(Matrix, SaveLoadSaveGivesEqualBytes) {
  GRAFT_APPLIES();
  const at::NoGradGuard no_grad;  // as saving has it: libtorch's LSTM sums otherwise with gradients on
  const TemporaryFolder folder;
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  const Tensor expected = answer(*model_, &adapter, batch());
  detach(*model_);
  for (const char* name : {"a", "b"}) std::filesystem::create_directories(folder / name);
  write_adapter(folder / "a", adapter, *model_);
  const Adapter read = read_adapter(folder / "a", *model_);
  attach(read, *model_);
  EXPECT_TRUE(answer(*model_, &read, batch()).equal(expected));
  write_adapter(folder / "b", read, *model_);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "a")) {
    const auto file = entry.path().filename();
    EXPECT_EQ(read_file(entry.path()), read_file(folder / "b" / file)) << file;
  }
}

TEST_P(Matrix, AnAdapterForAnotherBaseIsRefusedWithAllReasons) {
  GRAFT_APPLIES();
  const TemporaryFolder folder;
  write_adapter(folder.path(), fresh_adapter(row(), *model_), *model_);
  const std::string type = type_of(tiny());
  const Tiny& other = type == "bert" ? tiny_models()[3] : tiny_models()[0];
  const Tiny narrow{"bert", R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 61,
    "hidden_size": 20, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40})"};
  // A file that names no modules fits every model of its sizes, as PEFT has it.
  const auto stranger = tiny_model(row().names_modules ? other : narrow);
  EXPECT_THROW(read_adapter(folder.path(), *stranger), DataError);
}

TEST_P(Matrix, TheCountEqualsTheFormula) {
  GRAFT_APPLIES();
  if (!row().count && !row().input_count) return RecordProperty("cell", "left out");
  const Adapter adapter = fresh_adapter(row(), *model_);
  int64_t expected = parameter_count(adapter.stand_ins);
  if (row().input_count) expected += row().input_count(*model_);
  for (const auto& [path, hook] : adapter.linears) {
    const auto& linear = dynamic_cast<Linear&>(*model_->find(path));
    expected += row().count(linear.in(), linear.out());
  }
  EXPECT_EQ(parameter_count(trainable(adapter)), expected);
}

TEST_P(Matrix, PackedEqualsSingle) {
  GRAFT_APPLIES();
  const Adapter adapter = fresh_adapter(row(), *model_);
  move_tensors(adapter);
  attach(adapter, *model_);
  const at::NoGradGuard no_grad;
  std::vector<Tensor> parts;
  for (const auto& [seed, length] : {std::pair{1, 6}, {2, 3}, {3, 5}}) {
    const Batch one = batch_of(*model_, {some_text(static_cast<uint64_t>(seed), length)});
    parts.push_back(answer(*model_, &adapter, one));
  }
  const Tensor packed = answer(*model_, &adapter, batch());
  // Products of other heights sum in another order.
  EXPECT_LT(largest_difference(packed, at::cat(parts)),
            2e-5 * std::max(1.0, packed.abs().max().item<double>()));
}

INSTANTIATE_TEST_SUITE_P(Methods, Matrix,
                         ::testing::Combine(::testing::ValuesIn(method_rows()),
                                            ::testing::ValuesIn(tiny_models())),
                         cell_name);

}  // namespace
}  // namespace graft::test
