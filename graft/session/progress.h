// The progress of a training run on standard error: a bar on a terminal, plain lines elsewhere.
#pragma once
#include <cstdint>
#include <string>

#include "graft/train/trainer.h"

namespace graft {

/// "2 h 05 min", "3 min 20 s", "12 s".
std::string duration_text(double seconds);
/// "1.5 GB", "320 MB"; powers of 1000.
std::string bytes_text(int64_t bytes);
/// "12,345".
std::string count_text(int64_t count);

class Progress {
 public:
  Progress();
  ~Progress();
  void add(const StepReport& report);
  /// A line of its own, above the bar.
  void line(const std::string& text);

 private:
  void clear();
  bool terminal_;
  bool bar_ = false;
  double started_, shown_ = 0, seconds_ = 0, loss_ = 0;
  int64_t steps_ = 0, tokens_ = 0;
};

}  // namespace graft
