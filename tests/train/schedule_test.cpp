#include "graft/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "graft/base/error.h"

namespace graft {
namespace {

TrainConfig with(const std::string& schedule, int64_t warmup) {
  TrainConfig config;
  config.schedule = schedule;
  config.warmup_steps = warmup;
  return config;
}

TEST(Schedule, LinearRisesThenFalls) {
  const TrainConfig config = with("linear", 4);
  for (int64_t step = 0; step < 20; ++step) {
    const auto s = static_cast<double>(step);
    EXPECT_DOUBLE_EQ(schedule_factor(config, step, 20), step < 4 ? s / 4 : (20 - s) / 16) << step;
  }
}

TEST(Schedule, CosineIsHalfAWave) {
  const TrainConfig config = with("cosine", 3);
  for (int64_t step = 3; step < 13; ++step) {
    const double progress = static_cast<double>(step - 3) / 10;
    EXPECT_DOUBLE_EQ(schedule_factor(config, step, 13), 0.5 * (1 + std::cos(std::numbers::pi * progress)));
  }
  EXPECT_DOUBLE_EQ(schedule_factor(config, 1, 13), 1.0 / 3);
}

TEST(Schedule, ConstantStaysAfterTheWarmUp) {
  const TrainConfig config = with("constant", 2);
  EXPECT_EQ(schedule_factor(config, 0, 10), 0);
  EXPECT_EQ(schedule_factor(config, 1, 10), 0.5);
  for (int64_t step = 2; step < 10; ++step) EXPECT_EQ(schedule_factor(config, step, 10), 1);
}

TEST(Schedule, WithoutWarmUpTheFirstStepIsFull) {
  EXPECT_EQ(schedule_factor(with("linear", 0), 0, 5), 1);
  EXPECT_EQ(schedule_factor(with("cosine", 0), 0, 5), 1);
}

TEST(Schedule, RatioIsRoundedUpAndStepsWin) {
  TrainConfig config = with("linear", 0);
  config.warmup_ratio = 0.06;
  EXPECT_EQ(warmup_steps(config, 345), 21);  // ceil(20.7), as transformers rounds
  config.warmup_steps = 7;
  EXPECT_EQ(warmup_steps(config, 345), 7);
}

TEST(Schedule, AWarmUpLongerThanTheRunIsNotCut) {
  EXPECT_DOUBLE_EQ(schedule_factor(with("linear", 100), 9, 10), 0.09);
  EXPECT_EQ(schedule_factor(with("linear", 10), 10, 10),
            1);  // as transformers' max(1, 0) in the denominator gives
}

TEST(Schedule, UnknownNameIsRefused) { EXPECT_THROW(schedule_factor(with("square", 0), 1, 2), UsageError); }

}  // namespace
}  // namespace graft
