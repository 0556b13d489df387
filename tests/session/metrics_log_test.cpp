#include "graft/session/metrics_log.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "graft/base/file.h"
#include "tests/train/fakes.h"

namespace graft {
namespace {

StepReport report_of(int64_t step) {
  StepReport report;
  report.step = step;
  report.loss = 1.0 / static_cast<double>(step);
  report.tokens = 10;
  report.seconds = 0.5;
  return report;
}

std::vector<Json> lines_of(const std::filesystem::path& folder) {
  std::vector<Json> lines;
  std::istringstream text(read_file(folder / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::vector<std::filesystem::path> event_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) files.push_back(entry.path());
  }
  return files;
}

TEST(MetricsLog, WritesALineAStep) {
  const test::TestFolder folder;
  MetricsLog log(folder.path(), 0);
  StepReport report = report_of(1);
  report.evaluation =
      Evaluation{.loss = 0.5, .metrics = {{"accuracy", 0.75}}, .predictions = {}, .tokens = 3};
  log.add(report);
  log.add(report_of(2));
  const auto lines = lines_of(folder.path());
  ASSERT_EQ(lines.size(), 2U);
  for (const char* key :
       {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "memory"}) {
    EXPECT_TRUE(lines[1].contains(key)) << key;
  }
  EXPECT_EQ(lines[1]["tokens_per_second"].get<double>(), 20);
  EXPECT_EQ(lines[0]["validation"]["accuracy"].get<double>(), 0.75);
  EXPECT_FALSE(lines[1].contains("validation"));
}

TEST(MetricsLog, ResumingCutsBothFilesAtTheStep) {
  const test::TestFolder folder;
  {
    MetricsLog log(folder.path(), 0);
    for (int64_t step = 1; step <= 5; ++step) log.add(report_of(step));
  }
  std::ofstream(folder.path() / "metrics.jsonl", std::ios::app)
      << "{\"step\": 6, \"lo";  // killed while writing
  const auto events = event_files(folder.path());
  ASSERT_EQ(events.size(), 1U);
  const auto size_of_five = std::filesystem::file_size(events[0]);
  {
    MetricsLog log(folder.path(), 3);
    EXPECT_EQ(lines_of(folder.path()).size(), 3U);
    EXPECT_LT(std::filesystem::file_size(events[0]), size_of_five);
    for (int64_t step = 4; step <= 5; ++step) log.add(report_of(step));
  }
  EXPECT_EQ(event_files(folder.path()), events);
  EXPECT_EQ(std::filesystem::file_size(events[0]), size_of_five);
  const auto lines = lines_of(folder.path());
  ASSERT_EQ(lines.size(), 5U);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(lines[i]["step"].get<size_t>(), i + 1);
}

TEST(MetricsLog, ANewRunBeginsAnew) {
  const test::TestFolder folder;
  { MetricsLog(folder.path(), 0).add(report_of(1)); }
  const MetricsLog log(folder.path(), 0);
  EXPECT_TRUE(lines_of(folder.path()).empty());
}

}  // namespace
}  // namespace graft
