#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>
#include <fstream>
#include <set>

#include "graft/base/error.h"
#include "graft/tasks/registry.h"
#include "graft/tasks/token_loss.h"
#include "tests/shared.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

std::vector<int64_t> values(const Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

class LanguageModelTest : public ::testing::Test {
 protected:
  std::unique_ptr<Task> make(Json task, uint64_t seed = 1, int64_t max_positions = 64) {
    return task_kind(task["name"])
        .create({.task = task,
                 .data = {},
                 .tokenizer = tokenizer_,
                 .max_positions = max_positions,
                 .seed = seed});
  }
  static std::vector<Example> texts(const std::vector<std::string>& documents) {
    std::vector<Example> rows;
    for (const std::string& text : documents) rows.push_back({{{"text", text}}, "file:1"});
    return rows;
  }

  test::TinyTokenizer files_{"a b c d e f g h i j", false};
  Tokenizer tokenizer_ = files_.open();
  test::FakeModel model_;
};

TEST_F(LanguageModelTest, DocumentsAreSequencesAndLongOnesAreCut) {
  const auto task = make({{"name", "causal_lm"}, {"max_length", 4}});
  const auto features = task->features(texts({"a b", "c d e f g", "h i j"}));
  // [SEP] (3) ends each document; a block of one token would predict nothing.
  ASSERT_EQ(features.size(), 4u);
  EXPECT_EQ(features[0].input_ids, (std::vector<int64_t>{5, 6, 3}));
  EXPECT_EQ(features[1].input_ids, (std::vector<int64_t>{7, 8, 9, 10}));
  EXPECT_EQ(features[2].input_ids, (std::vector<int64_t>{11, 3}));
  EXPECT_EQ(features[3].input_ids, (std::vector<int64_t>{12, 13, 14, 3}));
  EXPECT_EQ(features[2].example, 1);
}

TEST_F(LanguageModelTest, NothingIsPredictedAcrossDocuments) {
  const auto task = make({{"name", "causal_lm"}, {"end_documents", false}});
  const auto features = task->features(texts({"a b", "c d e"}));
  const TaskBatch batch = task->collate(features, {1, 0}, model_, 0);
  EXPECT_EQ(values(batch.batch.rows), (std::vector<int64_t>{0, 1, 3}));
  EXPECT_EQ(values(batch.labels), (std::vector<int64_t>{8, 9, 6}));
  EXPECT_EQ(batch.label_units, 3);
  EXPECT_EQ(batch.tokens, 5);
  EXPECT_EQ(batch.batch.layout.offsets, (std::vector<int64_t>{0, 3, 5}));
}

TEST_F(LanguageModelTest, TextWithoutTokensIsAnError) {
  EXPECT_THROW(make({{"name", "causal_lm"}, {"end_documents", false}})->features(texts({"a", "b"})),
               DataError);
  EXPECT_THROW(make({{"name", "causal_lm"}, {"max_length", 1}}), UsageError);
}

TEST_F(LanguageModelTest, BlocksNeverPassTheModelsLength) {
  const auto task = make({{"name", "causal_lm"}, {"max_length", 50}}, 1, 6);
  for (const Features& one : task->features(texts({"a b c d e f g h i j a b c"})))
    EXPECT_LE(one.input_ids.size(), 6u);
}

class MaskedLmTest : public LanguageModelTest {
 protected:
  /// One long document of known words.
  static std::string long_text() {
    std::string text;
    for (int i = 0; i < 4000; ++i) text += std::string(1, static_cast<char>('a' + i % 5)) + " ";
    return text;
  }
};

TEST_F(MaskedLmTest, SharesAreThePapers) {
  const auto task = make({{"name", "masked_lm"}, {"max_length", 4000}}, 1, 0);
  const auto features = task->features(texts({long_text()}));
  const auto before = features[0].input_ids;
  const TaskBatch batch = task->collate(features, {0}, model_, 0);
  const auto ids = values(batch.batch.input_ids), rows = values(batch.batch.rows),
             labels = values(batch.labels);
  double masked = 0, kept = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = static_cast<size_t>(rows[i]);
    EXPECT_EQ(labels[i], before[row]);
    masked += ids[row] == 4 ? 1 : 0;
    kept += ids[row] == before[row] ? 1 : 0;
  }
  std::set<int64_t> chosen(rows.begin(), rows.end());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_TRUE(chosen.contains(static_cast<int64_t>(i)) || ids[i] == before[i]);
  }
  const auto count = static_cast<double>(rows.size());
  // 4,000 draws of 0.15: standard deviation 0.0056; 600 of 0.8: 0.016. Four of them.
  EXPECT_NEAR(count / 4000, 0.15, 0.023);
  // Replaced by a drawn token of 11: one in eleven is the mask's id or the token itself.
  EXPECT_NEAR(masked / count, 0.8 + 0.1 / 11, 0.065);
  EXPECT_NEAR(kept / count, 0.1 + 0.1 / 11, 0.05);
}

TEST_F(MaskedLmTest, MasksAreAFunctionOfSeedEpochAndExample) {
  const auto rows_of = [&](uint64_t seed, int64_t epoch, const std::vector<int64_t>& indices) {
    const auto task = make({{"name", "masked_lm"}}, seed);
    const auto features = task->features(texts({long_text()}));
    return values(task->collate(features, indices, model_, epoch).batch.rows);
  };
  EXPECT_EQ(rows_of(1, 0, {3}), rows_of(1, 0, {3}));
  EXPECT_NE(rows_of(1, 0, {3}), rows_of(1, 1, {3}));
  EXPECT_NE(rows_of(1, 0, {3}), rows_of(2, 0, {3}));
  // Company changes nothing: 64 rows further on the same ones.
  auto alone = rows_of(1, 0, {3}), second = rows_of(1, 0, {2, 3});
  for (int64_t& row : alone) row += 64;
  EXPECT_TRUE(std::equal(alone.rbegin(), alone.rend(), second.rbegin()));
}

TEST_F(MaskedLmTest, EverySequenceHasSomethingToGuess) {
  const auto task = make({{"name", "masked_lm"}, {"mask_probability", 0.0}});
  const auto features = task->features(texts({"a b c"}));
  EXPECT_EQ(task->collate(features, {0}, model_, 0).label_units, 1);
}

TEST_F(MaskedLmTest, BlocksAreWrappedAsTheTokenizerDoes) {
  const test::TinyTokenizer files("a b c d e", true);
  const Tokenizer tokenizer = files.open();
  const auto task =
      task_kind("masked_lm")
          .create({.task = {{"name", "masked_lm"}, {"max_length", 4}}, .data = {}, .tokenizer = tokenizer});
  const auto features = task->features(texts({"a b c"}));
  ASSERT_EQ(features.size(), 2u);
  EXPECT_EQ(features[0].input_ids, (std::vector<int64_t>{2, 5, 6, 3}));
  EXPECT_EQ(features[1].input_ids, (std::vector<int64_t>{2, 7, 3}));
}

TEST(TokenMetrics, EqualTheVectorsOfPerplexity) {
  GRAFT_NEED(test::shared_dir());
  std::ifstream file(test::shared_dir() / "goldens-text" / "metrics.jsonl");
  int64_t checked = 0;
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    if (row["metric"] != "perplexity") continue;
    const auto labels = row["labels"].get<std::vector<int64_t>>();
    TaskBatch batch;
    batch.batch.layout = Layout::of({static_cast<int64_t>(labels.size())});
    set_token_labels(batch, labels, Prediction::next);
    ASSERT_EQ(batch.label_units, row["value"]["tokens"].get<int64_t>());
    if (batch.label_units == 0) continue;
    std::vector<Tensor> rows;
    for (const auto& logits : row["logits"].get<std::vector<std::vector<double>>>())
      rows.push_back(at::tensor(logits, at::kDouble));
    const Tensor logits = at::stack(rows).index_select(0, batch.batch.rows);
    const Tensor losses = logits.logsumexp(1) - logits.gather(1, batch.labels.unsqueeze(1)).squeeze(1);
    const auto metrics = token_metrics();
    metrics->add(batch, at::stack({losses, at::zeros_like(losses)}, 1));
    const double want = row["value"]["perplexity"].get<double>();
    EXPECT_NEAR(metrics->values()[0].second, want, 1e-12 * want);  // doubles in another order
    ++checked;
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace graft
