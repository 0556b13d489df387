// Against the real transformers and PEFT, where their Python environment is on this machine (tools/setup
// peft).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "graft/base/json.h"
#include "graft/generate/generator.h"
#include "graft/io/checkpoint.h"
#include "graft/text/chat_template.h"
#include "tests/shared.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

fs::path peft_python() {
  const char* cache = std::getenv("GRAFT_CACHE");
  const char* home = std::getenv("HOME");
  const fs::path python =
      (cache ? fs::path(cache) : fs::path(home ? home : "") / ".cache/graft") / "venv-peft-0.21.2/bin/python";
  return fs::exists(python) ? python : fs::path();
}

#define GRAFT_NEED_PEFT()    \
  if (peft_python().empty()) \
  GTEST_SKIP() << "PEFT's Python environment is not on this machine: tools/setup peft"

/// A folder of this test's own, removed at its end.
class Folder {
 public:
  Folder() : path(fs::temp_directory_path() / fmt::format("graft-generate-{}", getpid())) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  const fs::path path;
};

Json ask_transformers(const Folder& folder, const Json& request) {
  std::ofstream(folder.path / "request.json") << request.dump();
  const std::string command =
      fmt::format("'{}' '{}/tests/generate/reference.py' '{}' '{}' 2>'{}'", peft_python().string(),
                  GRAFT_SOURCE_DIR, (folder.path / "request.json").string(),
                  (folder.path / "answer.json").string(), (folder.path / "errors").string());
  if (std::system(command.c_str()) != 0) {
    std::ifstream errors(folder.path / "errors");
    throw std::runtime_error(std::string(std::istreambuf_iterator<char>(errors), {}));
  }
  return read_json(folder.path / "answer.json");
}

TEST(Transformers, ProcessorsGiveTheSameScores) {
  GRAFT_NEED_PEFT();
  const Folder folder;
  RandomStream random(5, "test");
  constexpr size_t kRows = 4, kVocabulary = 300;
  std::vector<std::vector<float>> logits(kRows, std::vector<float>(kVocabulary));
  std::vector<std::vector<int64_t>> seen(kRows, std::vector<int64_t>(20));
  for (size_t row = 0; row < kRows; ++row) {
    for (float& logit : logits[row]) logit = static_cast<float>(3 * random.normal());
    for (int64_t& id : seen[row]) id = static_cast<int64_t>(random.below(kVocabulary));
  }
  const std::vector<SamplingConfig> configs = {
      {.temperature = 0.7, .repetition_penalty = 1.3},
      {.temperature = 1.5, .top_k = 17},
      {.temperature = 0.9, .top_p = 0.83},
      {.temperature = 1.1, .min_p = 0.07},
      {.temperature = 1.3, .top_k = 60, .top_p = 0.9, .min_p = 0.02, .repetition_penalty = 0.8},
  };
  Json processors = Json::array();
  for (const SamplingConfig& config : configs) processors.push_back(write_fields(config));
  const Json answer =
      ask_transformers(folder, {{"processors", processors}, {"logits", logits}, {"seen", seen}});
  for (size_t c = 0; c < configs.size(); ++c) {
    for (size_t row = 0; row < kRows; ++row) {
      const std::vector<float> ours = Sampler(configs[c], 0).scores(logits[row], seen[row]);
      for (size_t i = 0; i < kVocabulary; ++i) {
        const Json& theirs = answer["scores"][c][row][i];
        ASSERT_EQ(std::isfinite(ours[i]), !theirs.is_null())
            << processors[c].dump() << " row " << row << " token " << i;
        // The same float32 operations on both sides; two roundings may differ.
        if (std::isfinite(ours[i])) {
          EXPECT_NEAR(ours[i], theirs.get<double>(), 2e-6 * (1 + std::abs(ours[i])));
        }
      }
    }
  }
}

const std::vector<std::string> kPrompts = {"Once upon a time, there was a little girl named Lily.",
                                           "The dog and the cat",
                                           "One day, Tom went to the park with his mom.",
                                           "I like",
                                           "It was a very big house. In the house",
                                           "\"Hello!\" said the bird.",
                                           "The sun was hot, so the old man",
                                           "She opened the box and"};

class GreedyGeneration : public testing::TestWithParam<const char*> {};

/// All prompts together; transformers took one after the other. Nothing ends an answer, so that each has its
/// 64 tokens.
void expect_ids(Model& model, const std::vector<std::vector<int64_t>>& prompts, const Json& theirs) {
  const std::vector<Generated> ours = Generator(model, nullptr, nullptr).run(prompts, {.max_new_tokens = 64});
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(Json(ours[i].ids), theirs[i]) << kPrompts[i];
}

/// As a user's messages where the model has a chat template: without it such a model ends its answer at once.
std::vector<std::vector<int64_t>> prompts_of(const fs::path& model_folder) {
  const Tokenizer tokenizer = Tokenizer::open(model_folder);
  const std::optional<ChatTemplate> chat = ChatTemplate::open(model_folder);
  std::vector<std::vector<int64_t>> prompts;
  for (const std::string& prompt : kPrompts) {
    TextInput input{.text = prompt, .pair = std::nullopt};
    if (chat) {
      input.text = chat->render({.messages = {{{"role", "user"}, {"content", prompt}}},
                                 .tools = nullptr,
                                 .add_generation_prompt = true});
      input.add_special_tokens = false;
    }
    prompts.push_back(tokenizer.encode(input).ids);
  }
  return prompts;
}

TEST_P(GreedyGeneration, EqualsTransformersAndPeftTokenForToken) {
  GRAFT_NEED(test::shared_dir());
  GRAFT_NEED_PEFT();
  const Folder folder;
  const fs::path model_folder = test::shared_dir() / "models" / GetParam();
  const std::unique_ptr<Model> model =
      load_model(Checkpoint::open(model_folder), {.head = HeadKind::causal_lm});
  const std::vector<std::vector<int64_t>> prompts = prompts_of(model_folder);
  const Json theirs = ask_transformers(folder, {{"model", model_folder.string()},
                                                {"prompts", prompts},
                                                {"max_new_tokens", 64},
                                                {"new_adapter", (folder.path / "adapter").string()}});
  EXPECT_NE(theirs["base"], theirs["attached"]);
  expect_ids(*model, prompts, theirs["base"]);
  const Adapter adapter = read_adapter(folder.path / "adapter", *model);
  attach(adapter, *model);
  expect_ids(*model, prompts, theirs["attached"]);
  merge(adapter, *model);
  expect_ids(*model, prompts, theirs["merged"]);
}

INSTANTIATE_TEST_SUITE_P(RealModels, GreedyGeneration, testing::Values("stories15M", "minimind2-small"),
                         [](const auto& parameter) {
                           return std::string(parameter.index == 0 ? "Stories15M" : "MiniMind2Small");
                         });

}  // namespace
}  // namespace graft
