#include "graft/session/machine.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace graft {
namespace {

std::string slurp(const char* path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// What stands behind "key:" in a file of such lines, without spaces around it; "" where there is no such
/// line.
std::string entry(const char* path, const std::string& key) {
  std::istringstream lines(slurp(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

int64_t kilobytes(const char* path, const std::string& key) {
  return std::strtoll(entry(path, key).c_str(), nullptr, 10) * 1024;
}

}  // namespace

double seconds_since_start() {
  const std::string stat = slurp("/proc/self/stat");
  // The second field is the program's name in parentheses and may hold anything; field 22 is the start in
  // clock ticks.
  const size_t close = stat.rfind(')');
  if (close == std::string::npos) return 0;
  std::istringstream fields(stat.substr(close + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  const double started = std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  timespec clock{};
  if (clock_gettime(CLOCK_BOOTTIME, &clock) != 0 || started <= 0) return 0;
  return static_cast<double>(clock.tv_sec) + static_cast<double>(clock.tv_nsec) * 1e-9 - started;
}

int64_t memory_bytes() { return kilobytes("/proc/self/status", "VmRSS"); }
int64_t peak_memory_bytes() { return kilobytes("/proc/self/status", "VmHWM"); }

Json machine() {
  utsname name{};
  uname(&name);
  return {{"system", std::string(name.sysname) + " " + name.release},
          {"processor", entry("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"threads", at::get_num_threads()},
          {"memory_bytes", kilobytes("/proc/meminfo", "MemTotal")}};
}

Json versions() {
  const std::string config = at::show_config();
  const size_t begin = config.find("TORCH_VERSION=");
  const size_t length = std::string("TORCH_VERSION=").size();
  const std::string torch = begin == std::string::npos
                                ? "unknown"
                                : config.substr(begin + length, config.find(',', begin) - begin - length);
  return {{"graft", "0.1.0"}, {"libtorch", torch}, {"compiler", __VERSION__}};
}

}  // namespace graft
