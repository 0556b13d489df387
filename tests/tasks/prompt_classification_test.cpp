#include "graft/tasks/prompt_classification.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

#include "graft/base/error.h"
#include "graft/tasks/prompt_template.h"
#include "tests/models/tiny.h"
#include "tests/tasks/tiny_tokenizer.h"
#include "tests/temporary.h"

namespace graft {
namespace {

using test::message_of;

using Ids = std::vector<int64_t>;

class TemplateTest : public ::testing::Test {
 protected:
  PromptTemplate make(const std::string& text, PromptTemplate::Reading reading = {}) {
    DataConfig data;
    data.columns = {{"text", "s1"}};
    return PromptTemplate(text, data, tokenizer_, reading);
  }
  // [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then a 5, b 6 …
  test::TinyTokenizer files_{"a b c d e f good bad it was ."};
  Tokenizer tokenizer_ = files_.open();
  Example row_{{{"s1", "a b"}, {"s2", "c"}, {"label", "yes"}}, "data.tsv:7"};
};

TEST_F(TemplateTest, PartsStandWhereTheTemplateHasThem) {
  const PromptTemplate prompt = make("{soft}{text} {soft:2} it was {mask} . {special:[SEP]} {s2}{soft}");
  const auto filled = prompt.fill(row_);
  EXPECT_EQ(filled.ids, (Ids{2, -1, 5, 6, -2, -3, 13, 14, 4, 15, 3, 7, -4, 3}));
  EXPECT_EQ(filled.answer_row, 8);
  EXPECT_EQ(prompt.pseudo_tokens(), (Ids{-1, -1, -1, -1}));
}

TEST_F(TemplateTest, AnchorsMayBeTrainedFromTheirWords) {
  const PromptTemplate prompt = make("{text}{soft:\"it was\"}{soft}{mask}");
  EXPECT_EQ(prompt.pseudo_tokens(), (Ids{13, 14, -1}));
  EXPECT_EQ(prompt.fill(row_).ids, (Ids{2, 5, 6, -1, -2, -3, 4, 3}));
}

TEST_F(TemplateTest, OneDirectionEndsBeforeTheAnswer) {
  const PromptTemplate prompt = make("{soft}{text}{soft} {mask}", {.masked = false});
  const auto filled = prompt.fill(row_);
  EXPECT_EQ(filled.ids, (Ids{2, -1, 5, 6, -2}));
  EXPECT_EQ(filled.answer_row, 4);
  EXPECT_NE(message_of<Error>([&] { make("{mask} {text}", {.masked = false}); }).find("at the end"),
            std::string::npos);
}

TEST_F(TemplateTest, OnlyTheExamplesTextsAreShortened) {
  Example row = row_;
  row.fields["s1"] = "a b c d e f";
  row.fields["s2"] = "f e";
  const PromptTemplate prompt = make("{text} it was {mask} {s2}", {.masked = true, .max_length = 9});
  EXPECT_EQ(prompt.fill(row).ids, (Ids{2, 5, 6, 13, 14, 4, 10, 9, 3}));
  EXPECT_NE(message_of<Error>([&] {
              make("{text} it was {mask}", {.max_length = 5}).fill(row);
            }).find("data.tsv:7"),
            std::string::npos);
}

TEST_F(TemplateTest, MistakesAreNamed) {
  for (const char* text : {"no slot", "{mask} {mask}", "{text", "text}", "{} {mask}", "{soft:0} {mask}",
                           "{soft:x} {mask}", "{special} {mask}"}) {
    EXPECT_NE(message_of<Error>([&] { make(text); }).find("task.template"), std::string::npos) << text;
  }
  EXPECT_EQ(parse_template("{{x}} {mask}")[0].value, "{x} ");
}

class PromptTaskTest : public TemplateTest {
 protected:
  std::unique_ptr<Task> task(Json config) {
    config["name"] = "prompt_classification";
    if (!config.contains("template")) config["template"] = "{text} it was {mask} .";
    if (!config.contains("verbalizer")) config["verbalizer"] = {{"no", "bad"}, {"yes", {"good", "f"}}};
    DataConfig data;
    data.columns = {{"text", "s1"}};
    return task_kind("prompt_classification")
        .create({.task = config, .data = data, .tokenizer = tokenizer_, .max_positions = 32});
  }
};

TEST_F(PromptTaskTest, AClassScoresTheMeanOfItsWordsAtTheMask) {
  const auto model = test::tiny_model(test::tiny_models()[0]);
  const auto prompt = task(Json::object());
  const auto features = prompt->features({row_, row_});
  const TaskBatch batch = prompt->collate(features, {0, 1}, *model, 0);
  EXPECT_TRUE(batch.batch.rows.equal(at::tensor({5, 13}, at::kLong)));
  const Task::Result result = prompt->evaluate(*model, batch.batch, batch);
  Batch all = batch.batch;
  all.rows = Tensor();
  const Tensor at_mask = model->logits(model->run(all), all)[5];
  const Tensor expected = at::stack({at_mask[12], (at_mask[11] + at_mask[10]) / 2});
  // Rows of the vocabulary's product, summed in another order.
  EXPECT_LT((result.logits[1] - expected).abs().max().item<double>(), 1e-5);
  const double loss = -at::log_softmax(expected, 0)[1].item<double>();
  EXPECT_NEAR(result.loss_sum.item<double>(), 2 * loss, 1e-5);
  EXPECT_EQ(prompt->head(), HeadKind::masked_lm);
  EXPECT_EQ(task({{"head", "causal_lm"}, {"template", "{text} {mask}"}})->head(), HeadKind::causal_lm);
}

TEST_F(PromptTaskTest, WordsMustTellTheClassesApart) {
  EXPECT_NE(message_of<Error>([&] {
              task({{"verbalizer", {{"no", "bad"}, {"yes", "bad"}}}});
            }).find("same tokens"),
            std::string::npos);
  EXPECT_NE(message_of<Error>([&] {
              task({{"verbalizer", {{"no", "zebra"}, {"yes", "bad"}}}});
            }).find("zebra"),
            std::string::npos);
  EXPECT_NE(message_of<Error>([&] {
              task({{"verbalizer", {{"no", "bad"}}}});
            }).find("expected 2 or more"),
            std::string::npos);
}

TEST_F(PromptTaskTest, PseudoTokensThatNobodyFillsAreAnError) {
  const auto model = test::tiny_model(test::tiny_models()[0]);
  const auto prompt = task({{"template", "{soft}{text} {mask}"}});
  EXPECT_EQ(prompt->pseudo_tokens().size(), 1u);
  const auto features = prompt->features({row_});
  const TaskBatch batch = prompt->collate(features, {0}, *model, 0);
  EXPECT_NE(message_of<Error>([&] { prompt->evaluate(*model, batch.batch, batch); }).find("p_tuning"),
            std::string::npos);
}

}  // namespace
}  // namespace graft
