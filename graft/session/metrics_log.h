// metrics.jsonl and TensorBoard's events of a run: one line a logged step, and the same again for
// TensorBoard.
#pragma once
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "graft/session/event_file.h"
#include "graft/train/trainer.h"

namespace graft {

class MetricsLog {
 public:
  /// Goes on after the lines up to `step` that are already there; later ones and half-written ones are cut
  /// off, and the event file is written anew from the lines that stay. Step 0: a new log. Errors: DataError.
  MetricsLog(const std::filesystem::path& folder, int64_t step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  /// Errors: DataError (disk full).
  void add(const StepReport& report);

 private:
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
  std::unique_ptr<EventFile> events_;
};

}  // namespace graft
