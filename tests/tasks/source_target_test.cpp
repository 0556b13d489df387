// Objectives of encoder-decoders: span corruption, prefixes, and how sources and targets are packed.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "graft/base/error.h"
#include "graft/tasks/answer_judge.h"
#include "graft/tasks/registry.h"
#include "graft/tasks/span_noise.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

using Ids = std::vector<int64_t>;

Ids values(const Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

const std::vector<std::string> kWords = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};

/// Words 5 … 14, then <extra_id_2>, <extra_id_1>, <extra_id_0>; [SEP] (3) ends.
class SourceTargetTest : public ::testing::Test {
 protected:
  std::unique_ptr<Task> make(const Json& task, uint64_t seed = 1) {
    return task_kind(task["name"])
        .create({.task = task, .data = {}, .tokenizer = tokenizer_, .max_positions = 0, .seed = seed});
  }
  std::vector<Example> text(size_t words) const {
    std::string line;
    for (size_t i = 0; i < words; ++i) line += kWords[i % kWords.size()] + " ";
    return {{{{"text", line}}, "file:1"}};
  }

  test::TinyTokenizer files_{"a b c d e f g h i j <extra_id_2> <extra_id_1> <extra_id_0>", false};
  Tokenizer tokenizer_ = files_.open();
  test::FakeModel model_;
};

TEST(SpanNoise, CountsAreThoseOfT5) {
  const SpanNoise noise;
  // round(512 · 0.15) = 77 hidden tokens, round(77 / 3) = 26 spans.
  EXPECT_EQ(noise.counts(512).hidden, 77);
  EXPECT_EQ(noise.counts(512).spans, 26);
  // Halves go to the even neighbour, as numpy's: 30 · 0.15 = 4.5, 10 · 0.15 = 1.5.
  EXPECT_EQ(noise.counts(30).hidden, 4);
  EXPECT_EQ(noise.counts(10).hidden, 2);
  EXPECT_EQ(noise.counts(2).hidden, 1);
  EXPECT_EQ(noise.counts(2).spans, 1);
  // T5's own: an input of 512 takes a text of 568 tokens, whose target has 114 ids.
  EXPECT_EQ(noise.text_length(512), 568);
  const auto [hidden, spans] = noise.counts(568);
  EXPECT_EQ(hidden + spans + 1, 114);
  EXPECT_EQ(noise.text_length(2), 0);
}

/// Every composition of 4 hidden tokens into 2 spans and of 6 kept ones into 2 comes equally often.
TEST(SpanNoise, SpansAreComposedUniformly) {
  const SpanNoise noise{.density = 0.4, .mean_length = 2};
  std::map<std::vector<bool>, int> seen;
  constexpr int kDraws = 15000;
  for (int i = 0; i < kDraws; ++i) {
    RandomStream random(3, fmt::format("draw {}", i));
    const auto mask = noise_mask(10, noise, random);
    EXPECT_FALSE(mask.front());
    EXPECT_TRUE(mask.back());
    EXPECT_EQ(std::count(mask.begin(), mask.end(), true), 4);
    ++seen[mask];
  }
  ASSERT_EQ(seen.size(), 15u);  // 3 · 5 compositions
  // Six deviations of a binomial count.
  const double expected = kDraws / 15.0, allowed = 6 * std::sqrt(expected);
  for (const auto& [mask, count] : seen) EXPECT_NEAR(count, expected, allowed);
}

/// "Thank you <X> me to your party <Y> week" → "<X> for inviting <Y> last <Z>", figure 2 of Raffel et al.
/// 2020.
TEST(SpanNoise, ThePapersExample) {
  const Ids ids = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  const std::vector<bool> hidden = {false, false, true, true, false, false, false, false, true, false};
  const SourceTarget made = corrupted(ids, hidden, {99, 98, 97}, 1);
  EXPECT_EQ(made.source, (Ids{11, 12, 99, 15, 16, 17, 18, 98, 20, 1}));
  EXPECT_EQ(made.target, (Ids{99, 13, 14, 98, 19, 97, 1}));
}

TEST(SpanNoise, NothingIsLost) {
  const SpanNoise noise;
  for (int64_t length = 2; length < 90; ++length) {
    RandomStream random(5, fmt::format("{}", length));
    Ids ids;
    for (int64_t i = 0; i < length; ++i) ids.push_back(1000 + i);
    Ids sentinels;
    for (int64_t i = 0; i < 30; ++i) sentinels.push_back(99 - i);
    const SourceTarget made = corrupted(ids, noise_mask(length, noise, random), sentinels, 1);
    // Each sentinel of the source, replaced by what the target has behind it, gives the text back.
    Ids back;
    for (const int64_t id : made.source) {
      if (id >= 1000) back.push_back(id);
      const auto at = std::find(made.target.begin(), made.target.end(), id);
      if (id >= 1000 || id == 1) continue;
      ASSERT_NE(at, made.target.end());
      for (auto next = at + 1; *next >= 1000; ++next) back.push_back(*next);
    }
    EXPECT_EQ(back, ids);
  }
}

TEST_F(SourceTargetTest, TheDecoderReadsTheStartAndWritesTheEnd) {
  const TaskBatch batch = source_target_batch({{{5, 6, 3}, {7, 8, 3}}, {{9, 3}, {10, 3}}}, model_.info());
  EXPECT_EQ(values(batch.batch.input_ids), (Ids{5, 6, 3, 9, 3}));
  EXPECT_EQ(values(batch.batch.decoder_input_ids), (Ids{0, 7, 8, 0, 10}));
  EXPECT_EQ(values(batch.labels), (Ids{7, 8, 3, 10, 3}));
  EXPECT_EQ(batch.batch.layout.offsets, (Ids{0, 3, 5}));
  EXPECT_EQ(batch.batch.decoder_layout.offsets, (Ids{0, 3, 5}));
  EXPECT_EQ(batch.label_units, 5);
  EXPECT_EQ(batch.tokens, 10);
}

TEST_F(SourceTargetTest, CorruptionIsAFunctionOfSeedEpochAndPlace) {
  // Long enough for two spans: the only span of a shorter text always ends it.
  const Json recipe = {{"name", "span_corruption"}, {"max_length", 32}};
  const auto task = make(recipe), other_seed = make(recipe, 2);
  const auto features = task->features(text(100));
  ASSERT_GT(features.size(), 2u);
  const auto source = [&](const Task& of, int64_t index, int64_t epoch) {
    return values(of.collate(features, {index}, model_, epoch).batch.input_ids);
  };
  EXPECT_EQ(source(*task, 0, 0), source(*make(recipe), 0, 0));
  EXPECT_LE(source(*task, 0, 0).size(), 32u);
  // Company changes nothing.
  const Ids both = values(task->collate(features, {1, 0}, model_, 0).batch.input_ids);
  const Ids second = source(*task, 0, 0);
  EXPECT_TRUE(std::equal(second.rbegin(), second.rend(), both.rbegin()));
  bool epoch_matters = false, seed_matters = false;
  for (int64_t epoch = 1; epoch < 6; ++epoch) {
    epoch_matters |= source(*task, 0, epoch) != source(*task, 0, 0);
    seed_matters |= source(*other_seed, 0, epoch) != source(*task, 0, epoch);
  }
  EXPECT_TRUE(epoch_matters);
  EXPECT_TRUE(seed_matters);
}

TEST_F(SourceTargetTest, CorruptionNeedsSentinels) {
  // Texts of 40 tokens hide 6 in 2 spans; texts of 80 would need 4 sentinels.
  EXPECT_NO_THROW(make({{"name", "span_corruption"}, {"max_length", 37}}));
  EXPECT_THROW(make({{"name", "span_corruption"}, {"max_length", 73}}), DataError);
  EXPECT_THROW(make({{"name", "span_corruption"}, {"max_length", 2}}), UsageError);
}

TEST_F(SourceTargetTest, PrefixesAreCutEverywhere) {
  const auto task = make({{"name", "prefix_lm"}, {"max_length", 5}});
  const auto features = task->features(text(5));
  ASSERT_EQ(features.size(), 1u);
  std::map<size_t, int> lengths;
  constexpr int kDraws = 2000;
  for (int64_t epoch = 0; epoch < kDraws; ++epoch) {
    const TaskBatch batch = task->collate(features, {0}, model_, epoch);
    Ids read = values(batch.batch.input_ids);
    const Ids written = values(batch.labels);
    ASSERT_EQ(read.back(), 3);
    ASSERT_EQ(written.back(), 3);
    read.pop_back();
    ++lengths[read.size()];
    read.insert(read.end(), written.begin(), written.end() - 1);
    ASSERT_EQ(read, features[0].input_ids);
  }
  ASSERT_EQ(lengths.size(), 4u);  // prefixes of one to four tokens
  // Six deviations of a binomial count.
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count, kDraws / 4, 6 * std::sqrt(kDraws / 4));
}

const std::vector<Example> kPairs = {{{{"source", "a b c d"}, {"target", "e f"}}, "file:1"},
                                     {{{"source", "g"}, {"target", "h i j"}}, "file:2"}};

TEST_F(SourceTargetTest, SourcesAndTargetsEndAndAreCut) {
  const auto plain = make({{"name", "seq2seq"}, {"max_source_length", 4}, {"max_target_length", 3}});
  const auto features = plain->features(kPairs);
  ASSERT_EQ(features.size(), 2u);
  EXPECT_EQ(features[0].input_ids, (Ids{5, 6, 7, 3}));
  EXPECT_EQ(features[0].labels, (Ids{9, 10, 3}));
  EXPECT_EQ(features[1].input_ids, (Ids{11, 3}));
  EXPECT_EQ(features[1].labels, (Ids{12, 13, 3}));
  const TaskBatch batch = plain->collate(features, {0, 1}, model_, 0);
  EXPECT_EQ(batch.label_units, 6);
  EXPECT_EQ(batch.batch.layout.offsets, (Ids{0, 4, 6}));
}

TEST_F(SourceTargetTest, TheSentinelStandsWhereItIsAskedFor) {
  const int64_t sentinel = *tokenizer_.token_id("<extra_id_0>");
  const auto target = make({{"name", "seq2seq"}, {"sentinel", "target"}})->features(kPairs);
  EXPECT_EQ(target[0].input_ids, (Ids{5, 6, 7, 8, 3}));
  EXPECT_EQ(target[0].labels, (Ids{sentinel, 9, 10, 3}));
  const auto source =
      make({{"name", "seq2seq"}, {"sentinel", "source"}, {"source_prefix", "j "}})->features(kPairs);
  EXPECT_EQ(source[0].input_ids, (Ids{sentinel, 14, 5, 6, 7, 8, 3}));
  EXPECT_EQ(source[0].labels, (Ids{9, 10, 3}));
}

TEST_F(SourceTargetTest, AnswersAreJudgedWithoutTheLeadingSentinelOnly) {
  const int64_t sentinel = *tokenizer_.token_id("<extra_id_0>");
  const std::vector<Ids> answers = {{sentinel, 9, 10, 3, 5}, {12, 13, sentinel}};
  const auto judged = [&](const std::string& where) {
    const auto task =
        make({{"name", "seq2seq"}, {"sentinel", where}, {"metrics", {"exact_match", "rouge1"}}});
    return dynamic_cast<const AnswerJudge&>(*task).judge(kPairs, answers);
  };
  const auto with = judged("target");
  EXPECT_EQ(with.predictions[0], (Json{{"label", "e f"}, {"prediction", "e f"}}));
  EXPECT_EQ(with.predictions[1]["prediction"], "h i <extra_id_0>");
  EXPECT_EQ(with.values[0], (std::pair<std::string, double>{"exact_match", 0.5}));
  // The second answer's words: h, i, extra, id, 0; two of three are the target's.
  const double second = 2 * (2.0 / 5) * (2.0 / 3) / (2.0 / 5 + 2.0 / 3);
  EXPECT_DOUBLE_EQ(with.values[1].second, (1 + second) / 2);
  EXPECT_EQ(judged("none").values[0].second, 0);
  EXPECT_THROW(make({{"name", "seq2seq"}, {"metrics", {"rouge3"}}}), UsageError);
}

}  // namespace
}  // namespace graft
