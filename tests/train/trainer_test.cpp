#include "graft/train/trainer.h"

#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "graft/base/error.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

using test::bytes_of;
using test::FakeTraining;
using test::TestFolder;

class TrainerTest : public ::testing::Test {
 protected:
  // One thread: the promise of equal bits is made for one.
  void SetUp() override { at::set_num_threads(1); }
};

TrainConfig small_config() {
  TrainConfig config;
  config.epochs = 2;
  config.batch_size = 4;
  config.learning_rate = 0.05;
  return config;
}

std::vector<StepReport> run_all(FakeTraining& training) {
  std::vector<StepReport> reports;
  TrainEvents events;
  events.on_step = [&](const StepReport& report) { reports.push_back(report); };
  training.trainer.run(events);
  return reports;
}

TEST_F(TrainerTest, LearnsAndReportsEachStep) {
  FakeTraining training(small_config());
  const auto reports = run_all(training);
  ASSERT_EQ(reports.size(), 12U);
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].step, static_cast<int64_t>(i) + 1);
    EXPECT_EQ(reports[i].total_steps, 12);
    EXPECT_NEAR(reports[i].learning_rate, 0.05 * (12 - static_cast<double>(i)) / 12, 1e-12);
    EXPECT_EQ(reports[i].evaluation.has_value(), i == 5 || i == 11);
    EXPECT_GT(reports[i].tokens, 0);
  }
  EXPECT_LT(reports[11].evaluation->loss, reports[5].evaluation->loss);
  EXPECT_DOUBLE_EQ(reports[11].epoch, 2);
}

TEST_F(TrainerTest, AccumulationEqualsOneBigBatch) {
  TrainConfig big = small_config();
  big.batch_size = 6;
  big.shuffle = false;
  TrainConfig small = big;
  small.batch_size = 2;
  small.gradient_accumulation_steps = 3;
  FakeTraining a(big), b(small);
  // The fake's dropout draws once a batch; without noise both see the same function.
  a.model.noise = b.model.noise = 0;
  const auto losses_a = run_all(a), losses_b = run_all(b);
  ASSERT_EQ(losses_a.size(), losses_b.size());
  // float32 sums in another order: a few units of the last place, grown over eight steps.
  for (size_t i = 0; i < losses_a.size(); ++i) EXPECT_NEAR(losses_a[i].loss, losses_b[i].loss, 1e-5);
  for (const auto& [key, tensor] : a.adapter.trained) {
    EXPECT_TRUE(at::allclose(tensor, b.adapter.trained[key], 1e-4, 1e-5)) << key;
  }
}

TEST_F(TrainerTest, OneThreadGivesEqualBits) {
  FakeTraining a(small_config()), b(small_config());
  run_all(a);
  run_all(b);
  EXPECT_EQ(bytes_of(a.adapter.trained), bytes_of(b.adapter.trained));
}

TEST_F(TrainerTest, ResumeEqualsNoStopAtEveryStep) {
  TrainConfig config = small_config();
  config.gradient_accumulation_steps = 2;
  config.evaluate_every = 2;
  config.weight_decay = 0.1;
  FakeTraining whole(config);
  const auto reports = run_all(whole);
  const std::string expected = bytes_of(whole.adapter.trained);
  for (int64_t stop = 1; stop < whole.trainer.total_steps(); ++stop) {
    const TestFolder folder;
    FakeTraining first(config, folder.path());
    TrainEvents events;
    events.stop = [&] { return first.trainer.step() == stop; };
    EXPECT_EQ(first.trainer.run(events).end, TrainEnd::interrupted);
    FakeTraining second(config, folder.path());
    second.trainer.resume(*newest_checkpoint(folder.path()));
    EXPECT_EQ(second.trainer.step(), stop);
    const auto rest = run_all(second);
    ASSERT_EQ(rest.size() + static_cast<size_t>(stop), reports.size());
    for (size_t i = 0; i < rest.size(); ++i) {
      const StepReport& same = reports[i + static_cast<size_t>(stop)];
      EXPECT_EQ(rest[i].loss, same.loss);
      EXPECT_EQ(rest[i].gradient_norm, same.gradient_norm);
      EXPECT_EQ(rest[i].evaluation.has_value(), same.evaluation.has_value());
      if (same.evaluation) {
        EXPECT_EQ(rest[i].evaluation->json(), same.evaluation->json());
      }
    }
    EXPECT_EQ(bytes_of(second.adapter.trained), expected) << "stopped at step " << stop;
  }
}

TEST_F(TrainerTest, TheBestStateStays) {
  TrainConfig config = small_config();
  config.epochs = 6;
  config.learning_rate = 0.5;  // too high: the metric goes up and down
  FakeTraining training(config);
  std::vector<std::pair<double, std::string>> evaluated;
  TrainEvents events;
  events.on_step = [&](const StepReport& report) {
    if (report.evaluation)
      evaluated.emplace_back(report.evaluation->metrics[0].second, bytes_of(training.adapter.trained));
  };
  const TrainOutcome outcome = training.trainer.run(events);
  ASSERT_EQ(evaluated.size(), 6U);
  const auto best = std::max_element(evaluated.begin(), evaluated.end(),
                                     [](const auto& a, const auto& b) { return a.first < b.first; });
  EXPECT_EQ(bytes_of(training.adapter.trained), best->second);
  EXPECT_EQ(outcome.best_step, 6 * (best - evaluated.begin() + 1));
  EXPECT_EQ(outcome.metrics["closeness"].get<double>(), best->first);
}

TEST_F(TrainerTest, EarlyStoppingCountsEvaluationsWithoutGain) {
  TrainConfig config = small_config();
  config.learning_rate = 0;  // nothing ever gets better
  config.epochs = 10;
  config.early_stopping = 2;
  const TestFolder folder;
  FakeTraining training(config, folder.path());
  const TrainOutcome outcome = training.trainer.run({});
  EXPECT_EQ(outcome.end, TrainEnd::stopped_early);
  EXPECT_EQ(outcome.best_step, 6);
  EXPECT_EQ(outcome.steps, 18);
  FakeTraining again(config, folder.path());
  again.trainer.resume(*newest_checkpoint(folder.path()));
  const TrainOutcome resumed = again.trainer.run({});
  EXPECT_EQ(resumed.end, TrainEnd::stopped_early);
  EXPECT_EQ(resumed.steps, 18);
}

TEST_F(TrainerTest, LossAsMetricIsBetterWhenSmaller) {
  TrainConfig config = small_config();
  config.metric = "loss";
  FakeTraining training(config);
  double best = std::numeric_limits<double>::infinity();
  TrainEvents events;
  events.on_step = [&](const StepReport& report) {
    if (report.evaluation) best = std::min(best, report.evaluation->loss);
  };
  EXPECT_EQ(training.trainer.run(events).metrics["loss"].get<double>(), best);
}

TEST_F(TrainerTest, UnknownMetricNamesTheKnownOnes) {
  TrainConfig config = small_config();
  config.metric = "closenes";
  FakeTraining training(config);
  try {
    training.trainer.run({});
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("closeness"), std::string::npos) << error.what();
  }
}

TEST_F(TrainerTest, LossThatIsNotFiniteIsAnError) {
  FakeTraining training(small_config());
  training.train[0].target = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(training.trainer.run({}), DataError);
}

TEST_F(TrainerTest, NothingToTrainIsAnError) {
  test::FakeModel model;
  Adapter adapter;
  const test::FakeTask task;
  const auto data = test::fake_data(3, 1);
  EXPECT_THROW(Trainer({model, adapter, task, data, data}, {}, {}), UsageError);
}

TEST_F(TrainerTest, AuxiliaryLossAndAfterStepAreCalledEachStep) {
  FakeTraining training(small_config());
  int64_t after = 0;
  bool had_gradient = false;
  training.adapter.auxiliary_loss = [&] {
    return 100 * training.adapter.trained["up.weight"].square().sum();
  };
  training.adapter.after_step = [&](int64_t step) {
    EXPECT_EQ(step, ++after);
    had_gradient = training.adapter.trained["up.weight"].grad().defined();
  };
  const double before = training.adapter.trained["up.weight"].norm().item<double>();
  const auto reports = run_all(training);
  EXPECT_EQ(after, 12);
  EXPECT_TRUE(had_gradient);
  EXPECT_GT(reports[0].loss, 100 * before * before);
  EXPECT_LT(training.adapter.trained["up.weight"].norm().item<double>(), before);
}

}  // namespace
}  // namespace graft
