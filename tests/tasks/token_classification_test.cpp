#include "graft/tasks/token_classification.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "graft/base/error.h"
#include "graft/tasks/entity_scores.h"
#include "tests/models/tiny.h"
#include "tests/tasks/tiny_tokenizer.h"

namespace graft {
namespace {

using Tags = std::vector<std::string>;

TEST(EntityScores, SpansBeginAndEndAsConllCountsThem) {
  using E = std::vector<Entity>;
  EXPECT_EQ(entities_of({"B-PER", "I-PER", "O", "B-LOC"}), (E{{0, 1, "PER"}, {3, 3, "LOC"}}));
  EXPECT_EQ(entities_of({"I-PER", "I-PER"}), (E{{0, 1, "PER"}}));  // IOB1
  EXPECT_EQ(entities_of({"B-PER", "B-PER"}), (E{{0, 0, "PER"}, {1, 1, "PER"}}));
  EXPECT_EQ(entities_of({"B-PER", "I-LOC"}), (E{{0, 0, "PER"}, {1, 1, "LOC"}}));
  EXPECT_EQ(entities_of({"S-A", "B-A", "E-A", "I-A"}), (E{{0, 0, "A"}, {1, 2, "A"}, {3, 3, "A"}}));
  EXPECT_EQ(entities_of({"O", "O"}), E{});
}

TEST(EntityScores, OnlyWholeSpansOfTheRightTypeCount) {
  EntityCounts counts;
  counts.add({"O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"},
             {"O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"});
  counts.add({"B-PER", "I-PER", "O"}, {"B-PER", "I-PER", "O"});
  // seqeval's own example: one of two right on both sides.
  EXPECT_DOUBLE_EQ(counts.f1(), 0.5);
  EXPECT_DOUBLE_EQ(counts.precision(), 0.5);
  EXPECT_DOUBLE_EQ(counts.recall(), 0.5);
  EXPECT_DOUBLE_EQ(EntityCounts{}.f1(), 0);
}

class TokenClassificationTest : public ::testing::Test {
 protected:
  std::unique_ptr<Task> make(Json task, const std::vector<Example>& train) {
    task["name"] = "token_classification";
    return task_kind("token_classification")
        .create({.task = task, .data = {}, .tokenizer = tokenizer_, .max_positions = 6, .train = &train});
  }
  static Example sentence(const Tags& tokens, const Tags& tags) {
    return {{{"tokens", tokens}, {"tags", tags}}, "data.conll:1"};
  }
  test::TinyTokenizer files_{"a b c d e f"};
  Tokenizer tokenizer_ = files_.open();
};

TEST_F(TokenClassificationTest, FirstPiecesHaveLabelsAndOIsTheFirst) {
  // "b-c" is three pieces: the first one has the word's tag.
  const std::vector<Example> rows{sentence({"a", "b-c", "d"}, {"B-X", "I-X", "O"})};
  const auto task = make(Json::object(), rows);
  EXPECT_EQ(task->label_names(), (Tags{"O", "B-X", "I-X"}));
  const auto features = task->features(rows);
  // [CLS] a b - c [SEP]: d does not fit in six.
  EXPECT_EQ(features[0].input_ids, (std::vector<int64_t>{2, 5, 6, 1, 7, 3}));
  EXPECT_EQ(features[0].labels, (std::vector<int64_t>{-100, 1, 2, -100, -100, -100}));
}

TEST_F(TokenClassificationTest, BatchesReadTheFirstPiecesOfEachSentence) {
  const std::vector<Example> rows{sentence({"a", "b"}, {"B-X", "O"}), sentence({"c"}, {"B-X"})};
  const auto task = make(Json::object(), rows);
  const auto features = task->features(rows);
  const auto model = test::tiny_model(test::tiny_models()[0]);
  const TaskBatch batch = task->collate(features, {0, 1}, *model, 0);
  EXPECT_TRUE(batch.batch.rows.equal(at::tensor({1, 2, 5}, at::kLong)));
  EXPECT_TRUE(batch.labels.equal(at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_EQ(batch.label_units, 3);
  const auto metrics = task->metrics();
  metrics->add(batch, at::tensor({0.0, 1.0, 1.0, 0.0, 1.0, 0.0}).view({3, 2}));
  EXPECT_NEAR(metrics->values()[0].second, 2.0 / 3, 1e-9);  // one span of two, nothing wrong: 2 · 1 / (1 + 2)
  EXPECT_EQ(metrics->predictions()[0]["prediction"], (Json{"B-X", "O"}));
}

TEST_F(TokenClassificationTest, ErrorsNameTheLine) {
  const std::vector<Example> rows{sentence({"a"}, {"B-X"})};
  const auto task = make(Json::object(), rows);
  EXPECT_THROW(task->features({sentence({"a", "b"}, {"O"})}), DataError);
  EXPECT_THROW(task->features({sentence({"a"}, {"B-Y"})}), DataError);
  EXPECT_THROW(task->features({sentence({}, {})}), DataError);
  EXPECT_THROW(make({{"labels", {"O"}}}, rows), UsageError);
}

}  // namespace
}  // namespace graft
