#include "graft/session/run_folder.h"

#include <gtest/gtest.h>

#include <fstream>

#include "graft/base/error.h"
#include "graft/session/machine.h"
#include "graft/session/progress.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

TEST(RunFolder, ATakenFolderIsRefused) {
  const test::TestFolder folder;
  EXPECT_NO_THROW(check_run_folder(folder.path(), Existing::refuse));
  EXPECT_NO_THROW(check_run_folder(folder.path() / "new", Existing::refuse));
  std::ofstream(folder.path() / "thesis.txt") << "years of work";
  EXPECT_THROW(check_run_folder(folder.path(), Existing::refuse), UsageError);
  EXPECT_THROW(open_run_folder(folder.path(), Existing::overwrite), UsageError);  // no run's folder
  EXPECT_TRUE(fs::exists(folder.path() / "thesis.txt"));
  EXPECT_THROW(check_run_folder(folder.path() / "thesis.txt", Existing::resume), UsageError);
  EXPECT_THROW(check_run_folder("", Existing::refuse), UsageError);
}

TEST(RunFolder, OverwritingEmptiesARun) {
  const test::TestFolder folder;
  std::ofstream(folder.path() / "recipe.yaml") << "{}";
  fs::create_directories(folder.path() / "checkpoints" / "step-3");
  open_run_folder(folder.path(), Existing::overwrite);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(RunFolder, AFolderWithNothingButAHalfWrittenFileIsFree) {
  const test::TestFolder folder;
  std::ofstream(folder.path() / ".recipe.yaml.12-0.tmp") << "half";
  EXPECT_NO_THROW(check_run_folder(folder.path(), Existing::refuse));
}

TEST(RunFolder, ResumingTakesAwayWhatAKilledWriterLeft) {
  const test::TestFolder folder;
  fs::create_directories(folder.path() / "checkpoints" / "step-3");
  fs::create_directories(folder.path() / "checkpoints" / "step-1.tmp");
  fs::create_directories(folder.path() / "checkpoints" / ".half");
  std::ofstream(folder.path() / ".recipe.yaml.12-0.tmp") << "half";
  open_run_folder(folder.path(), Existing::resume);
  open_checkpoints(folder.path());
  EXPECT_FALSE(fs::exists(folder.path() / ".recipe.yaml.12-0.tmp"));
  EXPECT_TRUE(fs::exists(folder.path() / "checkpoints" / "step-3"));
  EXPECT_FALSE(fs::exists(folder.path() / "checkpoints" / "step-1.tmp"));
  EXPECT_FALSE(fs::exists(folder.path() / "checkpoints" / ".half"));
}

TEST(RunFolder, TheCardHasPeftsFrontMatter) {
  const TuningMethod method{"lora", "LORA", nullptr, nullptr};
  test::FakeModel model;
  model.head = HeadKind::causal_lm;
  Adapter adapter;
  adapter.method = &method;
  const Json results = {{"trainable_parameters", 12},
                        {"total_parameters", 345},
                        {"best_step", 6},
                        {"steps", 8},
                        {"metrics", {{"loss", 0.5}, {"accuracy", 0.75}}}};
  const std::string card =
      model_card({"runs/x", "models/base", {{"output", "runs/x"}}, results}, adapter, model);
  EXPECT_TRUE(card.starts_with("---\n"));
  const size_t end = card.find("\n---\n");
  ASSERT_NE(end, std::string::npos);
  const Json front = parse_yaml(card.substr(4, end - 3), "card");
  EXPECT_EQ(front["base_model"], "models/base");
  EXPECT_EQ(front["library_name"], "peft");
  EXPECT_EQ(front["pipeline_tag"], "text-generation");
  EXPECT_EQ(front["tags"][0], "base_model:adapter:models/base");
  EXPECT_EQ(front["tags"][1], "lora");
  EXPECT_NE(card.find("| validation | accuracy | 0.7500 |"), std::string::npos);
}

TEST(Machine, KnowsItself) {
  EXPECT_GT(seconds_since_start(), 0);
  EXPECT_LT(seconds_since_start(), 3600);
  EXPECT_GT(memory_bytes(), 1 << 20);
  EXPECT_GE(peak_memory_bytes(), memory_bytes());
  EXPECT_GT(machine()["memory_bytes"].get<int64_t>(), peak_memory_bytes());
  EXPECT_NE(versions()["libtorch"].get<std::string>().find('.'), std::string::npos);
}

TEST(Progress, WritesNumbersForPeople) {
  EXPECT_EQ(duration_text(12.4), "12 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
  EXPECT_EQ(bytes_text(1500000000), "1.50 GB");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(123), "123");
}

}  // namespace
}  // namespace graft
