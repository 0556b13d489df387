#include "graft/generate/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "graft/base/error.h"
#include "tests/shared.h"

namespace graft {
namespace {

std::unique_ptr<Model> tiny_model(LoadOptions options = {}) {
  const Json config = {{"model_type", "llama"},
                       {"architectures", {"LlamaForCausalLM"}},
                       {"vocab_size", 50},
                       {"hidden_size", 32},
                       {"intermediate_size", 48},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", 4},
                       {"num_key_value_heads", 2},
                       {"max_position_embeddings", 40},
                       {"initializer_range", 0.3},
                       {"tie_word_embeddings", false}};
  options.head = HeadKind::causal_lm, options.seed = 9;
  return new_model(config, options);
}

const std::vector<std::vector<int64_t>> kPrompts = {{3, 14, 15, 9, 2}, {6, 5}, {35, 8, 9}, {7}};

/// Greedy by full passes, without a cache.
std::vector<int64_t> without_cache(Model& model, std::vector<int64_t> ids, int64_t count) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < count; ++i) {
    Batch batch;
    batch.input_ids = at::tensor(ids, at::kLong);
    batch.layout = Layout::of({static_cast<int64_t>(ids.size())});
    batch.rows = batch.layout.last_rows();
    out.push_back(model.logits(model.run(batch), batch)[0].argmax().item<int64_t>());
    ids.push_back(out.back());
  }
  return out;
}

TEST(Generator, CachedEqualsFullPasses) {
  const auto model = tiny_model();
  const std::vector<Generated> out =
      Generator(*model, nullptr, nullptr).run(kPrompts, {.max_new_tokens = 20});
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    EXPECT_EQ(out[i].ids, without_cache(*model, kPrompts[i], 20));
    EXPECT_EQ(out[i].finish, Finish::length);
  }
}

TEST(Generator, CompanyAndGroupsChangeNothing) {
  const auto model = tiny_model();
  const Generator generator(*model, nullptr, nullptr);
  const SamplingConfig sampling{.temperature = 1.2, .top_k = 30, .seed = 4};
  const auto together = generator.run(kPrompts, {.max_new_tokens = 12, .sampling = sampling});
  const auto in_pairs =
      generator.run(kPrompts, {.max_new_tokens = 12, .batch_size = 2, .sampling = sampling});
  for (size_t i = 0; i < kPrompts.size(); ++i) EXPECT_EQ(together[i].ids, in_pairs[i].ids);
  const auto alone = generator.run({kPrompts[0]}, {.max_new_tokens = 12, .sampling = sampling});
  EXPECT_EQ(together[0].ids, alone[0].ids);
}

/// Weights in panels: few rows of them are shared among the threads of a crew, with a low-rank update too.
TEST(Generator, CompanyChangesNothingInHalvesAndBytes) {
  for (const bool bytes : {false, true}) {
    const auto model = tiny_model({.dtype = at::kBFloat16, .int8 = bytes});
    for (const bool adapted : {false, true}) {
      if (adapted) {
        const Json method = {
            {"name", "lora"}, {"r", 3}, {"init_lora_weights", false}, {"target_modules", "all-linear"}};
        attach(tuning_method("lora").create(method, *model, 5), *model);
      }
      const Generator generator(*model, nullptr, nullptr);
      const auto together = generator.run(kPrompts, {.max_new_tokens = 20});
      for (size_t i = 0; i < kPrompts.size(); ++i) {
        EXPECT_EQ(generator.run({kPrompts[i]}, {.max_new_tokens = 20})[0].ids, together[i].ids)
            << i << " int8 " << bytes << " adapted " << adapted;
      }
    }
    detach(*model);
  }
}

TEST(Generator, OneEndsAndTheOthersGoOn) {
  const auto model = tiny_model();
  const Generator generator(*model, nullptr, nullptr);
  const auto free = generator.run(kPrompts, {.max_new_tokens = 16});
  // What the second prompt's answer has as its fourth token ends every answer now.
  const int64_t eos = free[1].ids[3];
  const auto out = generator.run(kPrompts, {.max_new_tokens = 16, .eos = {eos}});
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto end = std::find(free[i].ids.begin(), free[i].ids.end(), eos);
    const bool ends = end != free[i].ids.end();
    EXPECT_EQ(out[i].ids, std::vector<int64_t>(free[i].ids.begin(), ends ? end + 1 : end));
    EXPECT_EQ(out[i].finish, ends ? Finish::eos : Finish::length);
  }
}

/// A queue longer than the batch: those that wait enter where others have ended, and nobody's answer changes.
TEST(Generator, WaitingPromptsEnterWhereOthersEnd) {
  const auto model = tiny_model();
  const Generator generator(*model, nullptr, nullptr);
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < 11; ++i) {
    for (const auto& prompt : kPrompts) {
      prompts.push_back(prompt);
      prompts.back().push_back(i);
    }
  }
  const GenerateConfig config{.max_new_tokens = 14, .eos = {4, 17, 30}, .batch_size = 3};
  size_t passes = 0;
  const auto out = generator.run(prompts, config, {.on_text = {}, .stop = [&] {
                                                     ++passes;
                                                     return false;
                                                   }});
  std::set<size_t> lengths;
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(out[i].ids, generator.run({prompts[i]}, config)[0].ids) << i;
    lengths.insert(out[i].ids.size());
  }
  EXPECT_GT(lengths.size(), 3U) << "the answers are of one length: nothing is tested";
  // A pass a token in turn where no place is ever empty, but at the end; each prompt's first pass is its own.
  size_t later = 0;
  for (const Generated& one : out) later += one.ids.size() - 1;
  EXPECT_LE(passes, prompts.size() + later / 3 + 14);
  EXPECT_GE(passes, later / 3);
}

/// Frequencies that switch beyond twelve positions.
std::unique_ptr<Model> longrope_model() {
  Json config = tiny_model()->config;
  config["original_max_position_embeddings"] = 12;
  config["rope_parameters"] = {{"rope_type", "longrope"},
                               {"short_factor", {1.0, 1.5, 2.0, 3.0}},
                               {"long_factor", {4.0, 6.0, 9.0, 12.0}}};
  return new_model(config, {.head = HeadKind::causal_lm, .seed = 9});
}

TEST(Generator, WhatSwitchesItsFrequenciesIsReadAnew) {
  const auto model = longrope_model();
  const Generator generator(*model, nullptr, nullptr);
  for (const auto& prompt : kPrompts) {
    EXPECT_EQ(generator.run({prompt}, {.max_new_tokens = 20})[0].ids, without_cache(*model, prompt, 20));
  }
}

/// A long sequence decides for its company; where it ends, and another one enters, nobody sees keys of both
/// sorts.
TEST(Generator, KeysOfOtherFrequenciesAreNotMixed) {
  const auto model = longrope_model();
  const Generator generator(*model, nullptr, nullptr);
  const std::vector<int64_t> longest = {11, 31, 8, 22, 40, 5, 17, 29, 2, 44, 13, 6, 38, 20};
  const auto& beside = kPrompts[1];
  const auto& waiting = kPrompts[2];
  const int64_t eos = generator.run({longest}, {.max_new_tokens = 3})[0].ids.back();
  const auto out =
      generator.run({longest, beside, waiting}, {.max_new_tokens = 8, .eos = {eos}, .batch_size = 2});
  ASSERT_EQ(out[0].ids.size(), 3U);
  ASSERT_EQ(out[1].ids.size(), 8U);
  std::vector<int64_t> seen = beside;
  for (size_t i = 0; i < out[1].ids.size(); ++i) {
    if (i >= out[0].ids.size()) {
      EXPECT_EQ(out[1].ids[i], without_cache(*model, seen, 1)[0]) << "token " << i;
    }
    seen.push_back(out[1].ids[i]);
  }
  EXPECT_EQ(out[2].ids, generator.run({waiting}, {.max_new_tokens = 8, .eos = {eos}})[0].ids);
}

TEST(Generator, EndsWithTheModelsContext) {
  const auto model = tiny_model();
  const auto out = Generator(*model, nullptr, nullptr).run(kPrompts, {.max_new_tokens = 1000});
  for (size_t i = 0; i < kPrompts.size(); ++i) EXPECT_EQ(out[i].ids.size() + kPrompts[i].size(), 40U);
}

TEST(Generator, StopsWhenAsked) {
  const auto model = tiny_model();
  int passes = 0;
  const auto out =
      Generator(*model, nullptr, nullptr).run(kPrompts, {.max_new_tokens = 16}, {.on_text = {}, .stop = [&] {
                                                                                   return passes++ == 3;
                                                                                 }});
  EXPECT_EQ(out[0].ids.size(), 3U);
  EXPECT_EQ(out[0].finish, Finish::interrupted);
}

TEST(Generator, RefusesWhatItCannotContinue) {
  const auto model = tiny_model();
  const Generator generator(*model, nullptr, nullptr);
  EXPECT_THROW(generator.run({{}}, {}), UsageError);
  EXPECT_THROW(generator.run({{50}}, {}), UsageError);
  EXPECT_THROW(generator.run({{-1}}, {}), UsageError);
  EXPECT_THROW(generator.run({std::vector<int64_t>(40, 1)}, {}), UsageError);
  EXPECT_THROW(generator.run({{1}}, {.stop = {"x"}}), UsageError);
  const auto classifier = new_model({{"model_type", "llama"},
                                     {"vocab_size", 20},
                                     {"hidden_size", 8},
                                     {"intermediate_size", 8},
                                     {"num_hidden_layers", 1},
                                     {"num_attention_heads", 2}},
                                    {.head = HeadKind::sequence_classification, .num_labels = 2});
  EXPECT_THROW(Generator(*classifier, nullptr, nullptr), UsageError);
}

TEST(EosIds, GenerationConfigComesFirst) {
  const std::filesystem::path none = std::filesystem::temp_directory_path() / "graft-no-such-folder";
  EXPECT_EQ(eos_ids(none, {{"eos_token_id", 5}}, nullptr), (std::vector<int64_t>{5}));
  EXPECT_EQ(eos_ids(none, {{"eos_token_id", {5, 7}}}, nullptr), (std::vector<int64_t>{5, 7}));
  EXPECT_EQ(eos_ids(none, {{"eos_token_id", nullptr}}, nullptr), (std::vector<int64_t>{}));
  EXPECT_THROW(eos_ids(none, {{"eos_token_id", "x"}}, nullptr), DataError);
}

}  // namespace
}  // namespace graft
