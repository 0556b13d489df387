#include "graft/base/log.h"

#include <atomic>
#include <cstdio>
#include <string>

namespace graft {
namespace {

std::atomic<bool> is_quiet{false};

}  // namespace

void set_quiet(bool quiet) { is_quiet = quiet; }

bool quiet() { return is_quiet; }

void log_line(std::string_view line) {
  // One call a line: lines of several threads do not mix.
  const std::string text = std::string(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace graft
