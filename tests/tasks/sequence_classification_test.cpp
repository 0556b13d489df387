#include "graft/tasks/sequence_classification.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "graft/base/error.h"
#include "tests/shared.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/temporary.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

using test::message_of;

Example example(Json fields, int64_t line = 1) {
  return {std::move(fields), fmt::format("data.tsv:{}", line)};
}

class SequenceClassificationTest : public ::testing::Test {
 protected:
  std::unique_ptr<Task> make(Json task, const std::vector<Example>& train, Json data = Json::object()) {
    if (task.is_null()) task = Json::object();  // {} is no object for this library
    task["name"] = task.value("name", "sequence_classification");
    apply_preset(task, data);
    return task_kind(task["name"])
        .create({.task = task,
                 .data = read_fields<DataConfig>(data, "data"),
                 .tokenizer = tokenizer_,
                 .max_positions = 64,
                 .train = &train});
  }

  test::TinyTokenizer files_{"a b c d e f g h i j"};
  Tokenizer tokenizer_ = files_.open();
};

TEST_F(SequenceClassificationTest, PairsHaveTypeIdsAndLabelsTheirOrder) {
  const std::vector<Example> rows{example({{"text", "a b"}, {"text_pair", "c"}, {"label", "no"}}),
                                  example({{"text", "d"}, {"text_pair", "e f"}, {"label", "yes"}}, 2)};
  const auto task = make({{"labels", {"yes", "no"}}}, rows);
  EXPECT_EQ(task->num_labels(), 2);
  const auto features = task->features(rows);
  ASSERT_EQ(features.size(), 2u);
  EXPECT_EQ(features[0].input_ids, (std::vector<int64_t>{2, 5, 6, 3, 7, 3}));
  EXPECT_EQ(features[0].token_type_ids, (std::vector<int64_t>{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(features[0].target, 1);
  EXPECT_EQ(features[1].target, 0);
}

TEST_F(SequenceClassificationTest, LabelsComeFromTheDataNumbersInTheirOrder) {
  const std::vector<Example> rows{example({{"text", "a"}, {"label", 10}}),
                                  example({{"text", "a"}, {"label", 9}}),
                                  example({{"text", "b"}, {"label", 10}})};
  EXPECT_EQ(make({}, rows)->label_names(), (std::vector<std::string>{"9", "10"}));
  const std::vector<Example> words{example({{"text", "a"}, {"label", "z"}}),
                                   example({{"text", "a"}, {"label", "b"}})};
  EXPECT_EQ(make({}, words)->label_names(), (std::vector<std::string>{"b", "z"}));
}

TEST_F(SequenceClassificationTest, FractionsAreARegression) {
  const std::vector<Example> rows{example({{"text", "a"}, {"label", "1.5"}}),
                                  example({{"text", "a"}, {"label", "2"}})};
  const auto task = make({}, rows);
  EXPECT_EQ(task->problem_type(), "regression");
  EXPECT_EQ(task->num_labels(), 1);
  EXPECT_TRUE(task->label_names().empty());
  EXPECT_EQ(task->features(rows)[0].target, 1.5);
  EXPECT_EQ(task->config()["problem_type"], "regression");
}

TEST_F(SequenceClassificationTest, TheEffectiveConfigMakesTheSameTask) {
  const std::vector<Example> rows{example({{"text", "a"}, {"label", "x"}}),
                                  example({{"text", "a"}, {"label", "y"}})};
  const Json config = make({}, rows)->config();
  EXPECT_EQ(make(config, {})->config(), config);
}

TEST_F(SequenceClassificationTest, LongPairsLoseTheEndOfTheLonger) {
  const std::vector<Example> rows{
      example({{"text", "a b c d e f"}, {"text_pair", "g h"}, {"label", "x"}}),
      example({{"text", "a b"}, {"text_pair", "c d e f g"}, {"label", "y"}}),
      example({{"text", "a b c d e"}, {"text_pair", "f g h i j"}, {"label", "y"}})};
  const auto features = make({{"max_length", 8}}, rows)->features(rows);
  EXPECT_EQ(features[0].input_ids, (std::vector<int64_t>{2, 5, 6, 7, 3, 11, 12, 3}));
  EXPECT_EQ(features[1].input_ids, (std::vector<int64_t>{2, 5, 6, 3, 7, 8, 9, 3}));
  // Five places for two equal texts: the second gets the odd one.
  EXPECT_EQ(features[2].input_ids, (std::vector<int64_t>{2, 5, 6, 3, 10, 11, 12, 3}));
}

TEST_F(SequenceClassificationTest, ErrorsSayWhere) {
  const std::vector<Example> good{example({{"text", "a"}, {"label", "pos"}}),
                                  example({{"text", "a"}, {"label", "neg"}})};
  const auto task = make({}, good);
  const auto features_of = [&](Json fields) {
    return message_of<DataError>([&] { task->features({good[0], example(std::move(fields), 7)}); });
  };
  EXPECT_NE(features_of({{"text", "a"}, {"label", "poss"}}).find("data.tsv:7"), std::string::npos);
  EXPECT_NE(features_of({{"text", "a"}, {"label", "poss"}}).find("did you mean pos"), std::string::npos);
  EXPECT_NE(features_of({{"texts", "a"}, {"label", "pos"}}).find("no column text"), std::string::npos);
  EXPECT_NE(features_of({{"text", {1, 2}}, {"label", "pos"}}).find("expected text"), std::string::npos);
  EXPECT_NE(message_of<DataError>([&] { make({}, {good[0]}); }).find("1 classes"), std::string::npos);
  EXPECT_NE(message_of<UsageError>([&] { make({}, {}); }).find("task.labels"), std::string::npos);
  EXPECT_NE(message_of<UsageError>([&] {
              make({{"metrics", {"acuracy"}}}, good);
            }).find("did you mean accuracy"),
            std::string::npos);
  EXPECT_NE(message_of<UsageError>([&] {
              make({{"max_lenght", 3}}, good);
            }).find("max_length"),
            std::string::npos);
  EXPECT_NE(message_of<DataError>([&] {
              make({{"max_length", 2}}, good)->features(good);
            }).find("special tokens"),
            std::string::npos);
}

TEST_F(SequenceClassificationTest, UnlabelledRowsCountNothing) {
  const std::vector<Example> rows{example({{"text", "a"}}), example({{"text", "b"}})};
  const auto task = make({{"labels", {"x", "y"}}}, {});
  const auto features = task->features(rows);
  EXPECT_TRUE(std::isnan(features[0].target));
  test::FakeModel model;
  const TaskBatch batch = task->collate(features, {0, 1}, model, 0);
  EXPECT_EQ(batch.label_units, 0);
  const auto metrics = task->metrics();
  metrics->add(batch, at::tensor({0.0, 1.0, 3.0, 1.0}).reshape({2, 2}));
  EXPECT_TRUE(metrics->values().empty());
  EXPECT_EQ(metrics->predictions()[0]["prediction"], "y");
  EXPECT_TRUE(metrics->predictions()[0]["label"].is_null());
}

TEST_F(SequenceClassificationTest, MetricsAndPredictions) {
  const auto task = make({{"labels", {"x", "y"}}, {"metrics", {"accuracy", "f1", "matthews"}}}, {});
  TaskBatch batch;
  batch.labels = at::tensor({0, 1, 1}, at::kLong);
  const auto metrics = task->metrics();
  metrics->add(batch, at::tensor({2.0, 1.0, 0.0, 1.0, 5.0, 0.0}).reshape({3, 2}));
  const auto values = metrics->values();
  ASSERT_EQ(values.size(), 3u);
  EXPECT_DOUBLE_EQ(values[0].second, 2.0 / 3);
  EXPECT_DOUBLE_EQ(values[1].second, 2.0 / 3);
  EXPECT_DOUBLE_EQ(values[2].second, 0.5);
  EXPECT_EQ(metrics->predictions()[2]["prediction"], "x");
  EXPECT_EQ(metrics->predictions()[2]["label"], "y");
  // softmax of 5 and 0
  EXPECT_NEAR(metrics->predictions()[2]["probability"].get<double>(), 1 / (1 + std::exp(-5.0)), 1e-12);
}

/// Every preset reads its data set's real files: labels, columns, header.
TEST_F(SequenceClassificationTest, PresetsKnowTheirFiles) {
  GRAFT_NEED(test::data_dir());
  const struct {
    const char *preset, *file;
    size_t rows;
    double target_sum;
  } cases[] = {{"glue/mrpc", "MRPC/dev.tsv", 408, 279},       {"glue/sst2", "SST-2/dev.tsv", 872, 444},
               {"glue/cola", "CoLA/dev.tsv", 1043, 721},      {"glue/rte", "RTE/dev.tsv", 277, 131},
               {"glue/qnli", "QNLI/dev.tsv", 5463, 2761},     {"glue/wnli", "WNLI/dev.tsv", 71, 31},
               {"glue/qqp", "QQP/dev_subset.tsv", 3496, 1324}};
  for (const auto& one : cases) {
    const auto task = make({{"name", one.preset}}, {});
    Json document = {{"name", one.preset}}, data = Json::object();
    apply_preset(document, data);
    const auto config = read_fields<DataConfig>(data, "data");
    const auto path = test::data_dir() / "data" / "glue" / one.file;
    const auto rows = read_examples(path, source_options(config, one.preset, Split::validation));
    const auto features = task_kind(one.preset)
                              .create({.task = document, .data = config, .tokenizer = tokenizer_})
                              ->features(rows);
    EXPECT_EQ(features.size(), one.rows) << one.preset;
    double sum = 0;
    for (const Features& row : features) sum += row.target;
    EXPECT_EQ(sum, one.target_sum) << one.preset;
  }
}

TEST_F(SequenceClassificationTest, PresetOfScoresAndUnlabelledTestFiles) {
  GRAFT_NEED(test::data_dir());
  const auto glue = test::data_dir() / "data" / "glue";
  const auto read = [&](const std::string& preset, const std::string& file, Split split) {
    Json task = {{"name", preset}}, data = Json::object();
    apply_preset(task, data);
    const auto config = read_fields<DataConfig>(data, "data");
    const auto rows = read_examples(glue / file, source_options(config, preset, split));
    return task_kind(preset).create({.task = task, .data = config, .tokenizer = tokenizer_})->features(rows);
  };
  double sum = 0;
  const auto scores = read("glue/stsb", "STS-B/dev.tsv", Split::validation);
  for (const Features& row : scores) sum += row.target;
  EXPECT_EQ(scores.size(), 1500u);
  EXPECT_NEAR(sum / 1500, 2.36, 0.01);  // the bundle's description
  const auto test = read("glue/cola", "CoLA/test.tsv", Split::test);
  EXPECT_EQ(test.size(), 1063u);
  EXPECT_TRUE(std::isnan(test[0].target));
}

TEST_F(SequenceClassificationTest, UnknownTasksNameTheNearest) {
  EXPECT_NE(message_of<UsageError>([] { task_kind("glue/mrcp"); }).find("glue/mrpc"), std::string::npos);
}

}  // namespace
}  // namespace graft
