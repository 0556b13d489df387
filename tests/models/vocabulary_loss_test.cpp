// The loss over a vocabulary by chunks of rows against logits made at once, for every family with such a
// head.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "graft/ops/cross_entropy.h"
#include "graft/ops/low_rank.h"
#include "graft/ops/tensor_memory.h"
#include "tests/models/tiny.h"

namespace graft::test {
namespace {

/// Several chunks of rows, the last of them shorter.
constexpr int64_t kRows = 500, kWords = 24000;

Tiny with_words(Tiny tiny, int64_t words) {
  Json config = parse_json(tiny.config, tiny.name);
  config["vocab_size"] = words;
  static std::vector<std::unique_ptr<std::string>> kept;
  kept.push_back(std::make_unique<std::string>(config.dump()));
  tiny.config = kept.back()->c_str();
  return tiny;
}

bool over_words(HeadKind head) {
  return head == HeadKind::causal_lm || head == HeadKind::masked_lm || head == HeadKind::seq2seq_lm;
}

std::vector<Tiny> worded() {
  std::vector<Tiny> out;
  for (const Tiny& tiny : tiny_models()) {
    LoadOptions options;
    if (over_words(new_model(parse_json(tiny.config, tiny.name), options)->head))
      out.push_back(with_words(tiny, kWords));
  }
  return out;
}

/// A low-rank update with two factors that are trained.
class Update : public LinearHook {
 public:
  Update(Tensor a, Tensor b) : a_(std::move(a)), b_(std::move(b)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream*) override {
    return ops::low_rank_add(base.apply(x), x, a_, b_, 2);
  }

 private:
  Tensor a_, b_;
};

Tensor drawn(std::vector<int64_t> shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(shape);
}

Tensor some_targets() {
  at::manual_seed(4);
  Tensor targets = at::randint(kWords, {kRows}, at::kLong);
  targets[3] = -100;
  return targets;
}

/// Loss, and gradients to the hidden rows and to `leaves`, divided by the number of rows as a step does.
std::vector<Tensor> measured(Model& model, std::vector<Tensor> leaves, bool chunked) {
  const Tensor hidden = drawn({kRows, model.info().hidden_size}, 1).requires_grad_(true);
  // OPT's stream is wider than what its head reads.
  const int64_t width = model.head == HeadKind::causal_lm ? model.output_embedding()->in() : hidden.size(1);
  const Tensor rows = hidden.narrow(1, 0, width), targets = some_targets();
  const Batch batch;
  const Tensor loss = chunked ? model.vocabulary_loss(rows, targets, batch)
                              : ops::cross_entropy(model.logits(rows, batch), targets);
  leaves.insert(leaves.begin(), hidden);
  std::vector<Tensor> out{loss.detach()};
  (loss / static_cast<double>(kRows)).backward();
  for (const Tensor& leaf : leaves) {
    out.push_back(leaf.grad().clone());
    leaf.mutable_grad() = Tensor();
  }
  return out;
}

/// Sums of hundreds of rows in another order: 1e-5 of the largest.
void expect_equal(const std::vector<Tensor>& got, const std::vector<Tensor>& wanted,
                  const std::string& what) {
  for (size_t i = 0; i < got.size(); ++i) {
    const double scale = wanted[i].abs().max().item<double>();
    EXPECT_GT(scale, 0) << what;
    EXPECT_LT(largest_difference(got[i], wanted[i]), 1e-5 * scale) << what << " " << i;
  }
}

class VocabularyLoss : public testing::TestWithParam<Tiny> {
 protected:
  std::unique_ptr<Model> model_ = tiny_model(GetParam());
};

TEST_P(VocabularyLoss, FrozenHead) {
  expect_equal(measured(*model_, {}, true), measured(*model_, {}, false), GetParam().name);
}

TEST_P(VocabularyLoss, TrainedHead) {
  Parameter& weight = *model_->output_embedding()->weight;
  weight.stand_in = weight.base.clone().requires_grad_(true);
  std::vector<Tensor> leaves{weight.stand_in};
  if (const auto& bias = model_->output_embedding()->bias) {
    bias->stand_in = bias->base.clone().requires_grad_(true);
    leaves.push_back(bias->stand_in);
  }
  expect_equal(measured(*model_, leaves, true), measured(*model_, leaves, false), GetParam().name);
}

TEST_P(VocabularyLoss, HookedHead) {
  Linear& head = *model_->output_embedding();
  const Tensor a = drawn({3, head.in()}, 2).requires_grad_(true),
               b = drawn({kWords, 3}, 3).requires_grad_(true);
  head.hook = std::make_shared<Update>(a, b);
  expect_equal(measured(*model_, {a, b}, true), measured(*model_, {a, b}, false), GetParam().name);
}

/// What a family does before its head is trained too.
TEST_P(VocabularyLoss, EveryOtherTensorOfTheHead) {
  std::vector<Tensor> leaves;
  for (const auto& [path, parameter] : model_->named_parameters()) {
    if (path.find("predictions.transform") == std::string::npos && !path.starts_with("lm_head.dense"))
      continue;
    parameter->stand_in = parameter->base.clone().requires_grad_(true);
    leaves.push_back(parameter->stand_in);
  }
  expect_equal(measured(*model_, leaves, true), measured(*model_, leaves, false), GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(Families, VocabularyLoss, testing::ValuesIn(worded()),
                         [](const auto& given) { return given.param.name; });

TEST(VocabularyLossMemory, WholeLogitsAreNeverThere) {
  ops::keep_tensor_memory();
  const auto llama = std::find_if(tiny_models().begin(), tiny_models().end(),
                                  [](const Tiny& tiny) { return tiny.name == "llama"; });
  constexpr int64_t kMany = 32000, kLong = 512;
  const auto model = tiny_model(with_words(*llama, kMany));
  const Tensor hidden = drawn({kLong, 24}, 1).requires_grad_(true);
  const Tensor targets = at::arange(kLong, at::kLong);
  const Batch batch;
  constexpr int64_t kLogits = kMany * kLong * 4;
  const auto peak = [&](const std::function<Tensor()>& loss) {
    loss().backward();  // packs the head
    const int64_t before = ops::tensor_memory().bytes;
    ops::reset_tensor_peak();
    loss().backward();
    return ops::tensor_memory().peak - before;
  };
  EXPECT_LT(peak([&] { return model->vocabulary_loss(hidden, targets, batch); }), kLogits);
  // The test sees them where they are.
  EXPECT_GE(peak([&] { return ops::cross_entropy(model->logits(hidden, batch), targets); }), kLogits);
}

}  // namespace
}  // namespace graft::test
