#include "graft/train/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "graft/base/error.h"

namespace graft {
namespace {

TrainConfig config_of(int64_t batch_size, int64_t accumulation, double epochs) {
  TrainConfig config;
  config.batch_size = batch_size;
  config.gradient_accumulation_steps = accumulation;
  config.epochs = epochs;
  return config;
}

const std::vector<int64_t> kLengths{3, 1, 4, 1, 5, 9, 2, 6, 5, 3};  // 10 sequences

TEST(Plan, CountsSteps) {
  EXPECT_EQ(Plan(kLengths, config_of(3, 1, 2)).total_steps(), 8);  // 4 batches an epoch
  EXPECT_EQ(Plan(kLengths, config_of(3, 3, 2)).total_steps(), 4);  // 2 steps an epoch: 3 batches, 1 batch
  EXPECT_EQ(Plan(kLengths, config_of(3, 1, 1.5)).total_steps(), 6);
  EXPECT_EQ(Plan(kLengths, config_of(3, 1, 0.1)).total_steps(), 1);
  TrainConfig by_steps = config_of(3, 1, 2);
  by_steps.steps = 100;
  EXPECT_EQ(Plan(kLengths, by_steps).total_steps(), 100);
}

TEST(Plan, EachEpochTakesEachSequenceOnce) {
  for (const int64_t tokens : {0, 10}) {
    TrainConfig config = config_of(3, 2, 3);
    config.batch_tokens = tokens;
    Plan plan(kLengths, config);
    Position position;
    int64_t steps = 0;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<int64_t> seen;
      while (position.epoch == epoch) {
        const Plan::Step step = plan.step(position);
        EXPECT_LE(step.batches.size(), 2U);
        for (const auto& batch : step.batches) seen.insert(seen.end(), batch.begin(), batch.end());
        EXPECT_EQ(step.ends_epoch, step.next.epoch == epoch + 1);
        position = step.next;
        ++steps;
      }
      std::sort(seen.begin(), seen.end());
      std::vector<int64_t> all(kLengths.size());
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(seen, all);
    }
    EXPECT_EQ(steps, plan.total_steps());
  }
}

TEST(Plan, IsAFunctionOfSeedAndPosition) {
  const TrainConfig config = config_of(3, 1, 3);
  Plan a(kLengths, config), b(kLengths, config);
  b.step({2, 1});
  b.step({0, 0});
  EXPECT_EQ(a.step({1, 2}).batches, b.step({1, 2}).batches);
}

TEST(Plan, EpochsCountParts) {
  Plan plan(kLengths, config_of(3, 1, 3));
  EXPECT_DOUBLE_EQ(plan.epochs({0, 1}), 0.25);
  EXPECT_DOUBLE_EQ(plan.epochs({2, 0}), 2);
}

TEST(Plan, RefusesNoDataAndPositionsOutside) {
  EXPECT_THROW(Plan({}, config_of(3, 1, 1)), DataError);
  Plan plan(kLengths, config_of(3, 1, 1));
  EXPECT_THROW(plan.step({0, 4}), DataError);
  EXPECT_THROW(plan.step({0, -1}), DataError);
}

}  // namespace
}  // namespace graft
