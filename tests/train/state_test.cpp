#include "graft/train/state.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "graft/base/error.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

using test::bytes_of;
using test::TestFolder;

TensorMap trained_tensors(double value) {
  return {{"a", at::full({2, 3}, value, at::kFloat).requires_grad_(true)},
          {"b", at::full({4}, -value, at::kFloat).requires_grad_(true)}};
}

TrainState state_at(int64_t step) {
  TrainState state;
  state.step = step;
  state.epoch = 2;
  state.batch = 7;
  state.dropout_position = 18446744073709551000U;  // does not fit a signed number
  state.tokens = 99;
  state.best_step = 3;
  state.best_score = 0.1 + 0.2;
  state.best_metrics = {{"loss", 0.25}};
  state.best = {{"a", at::rand({2, 3})}, {"b", at::rand({4})}};
  return state;
}

TEST(Checkpoint, GivesBackEveryBit) {
  const TestFolder folder;
  Optimizer saved(trained_tensors(0.1), {});
  saved.state().at("exp_avg.a").fill_(0.3);
  saved.state().at("exp_avg_sq.b").fill_(1e-20);
  const TrainState state = state_at(5);
  const auto path = save_checkpoint(folder.path(), state, saved, 1);
  EXPECT_EQ(path.filename(), "step-5");
  EXPECT_EQ(newest_checkpoint(folder.path()), path);
  Optimizer loaded(trained_tensors(7), {});
  const TrainState back = load_checkpoint(path, loaded);
  EXPECT_EQ(write_fields(back), write_fields(state));
  EXPECT_EQ(back.dropout_position, state.dropout_position);
  EXPECT_EQ(bytes_of(back.best), bytes_of(state.best));
  EXPECT_EQ(bytes_of(loaded.trained()), bytes_of(saved.trained()));
  EXPECT_EQ(bytes_of(loaded.state()), bytes_of(saved.state()));
}

TEST(Checkpoint, KeepsTheNewestByNumber) {
  const TestFolder folder;
  Optimizer optimizer(trained_tensors(1), {});
  for (const int64_t step : {8, 9, 10, 11}) save_checkpoint(folder.path(), state_at(step), optimizer, 2);
  EXPECT_EQ(newest_checkpoint(folder.path())->filename(), "step-11");
  EXPECT_EQ(checkpoint_step(*newest_checkpoint(folder.path())), 11);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"step-10", "step-11"}));
}

TEST(Checkpoint, IgnoresWhatIsNotOne) {
  const TestFolder folder;
  EXPECT_FALSE(newest_checkpoint(folder.path()));
  EXPECT_FALSE(newest_checkpoint(folder.path() / "missing"));
  for (const char* name : {"step-", "step-7x", "step-12.tmp", "removed-9", "step-3"}) {
    std::filesystem::create_directory(folder.path() / name);
  }
  EXPECT_FALSE(newest_checkpoint(folder.path()));  // step-3 holds no state
}

TEST(Checkpoint, OfAnotherRunSaysEverythingThatDiffers) {
  const TestFolder folder;
  Optimizer saved(trained_tensors(1), {});
  const auto path = save_checkpoint(folder.path(), state_at(1), saved, 1);
  Optimizer other({{"a", at::zeros({3, 3}).requires_grad_(true)}, {"c", at::zeros({1}).requires_grad_(true)}},
                  {});
  try {
    load_checkpoint(path, other);
    FAIL() << "no error";
  } catch (const DataError& error) {
    const std::string text = error.what();
    for (const char* part : {"a has shape [2, 3], expected [3, 3]", "c is missing", "b is unexpected"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
}

TEST(Checkpoint, WithABrokenStateIsAnError) {
  const TestFolder folder;
  Optimizer optimizer(trained_tensors(1), {});
  const auto path = save_checkpoint(folder.path(), state_at(1), optimizer, 1);
  std::ofstream(path / "state.json") << "{\"step\": 1}";
  EXPECT_THROW(load_checkpoint(path, optimizer), DataError);
  std::ofstream(path / "state.json") << "{";
  EXPECT_THROW(load_checkpoint(path, optimizer), DataError);
}

}  // namespace
}  // namespace graft
