#include "graft/session/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "graft/base/log.h"
#include "graft/session/machine.h"

namespace graft {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

constexpr double kBarSeconds = 0.1;  // between two states of the bar
constexpr double kLineSeconds = 10;  // between two plain lines
constexpr int64_t kBarWidth = 24;
constexpr double kSmoothing = 0.9;  // of the loss that is shown

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  if (whole >= 3600) return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} s", whole);
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return fmt::format("{:.2f} GB", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.1f} kB", value / 1e3);
}

std::string count_text(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0), started_(now()) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (bar_) std::fputs("\r\033[K", stderr);
  bar_ = false;
}

void Progress::line(const std::string& text) {
  if (quiet()) return;
  clear();
  log_line(text);
}

void Progress::add(const StepReport& report) {
  ++steps_;
  tokens_ += report.tokens;
  seconds_ += report.seconds;
  loss_ = steps_ == 1 ? report.loss : kSmoothing * loss_ + (1 - kSmoothing) * report.loss;
  if (quiet()) return;
  const double time = now();
  const bool last = report.step == report.total_steps;
  if (!last && steps_ > 1 && time - shown_ < (terminal_ ? kBarSeconds : kLineSeconds)) return;
  shown_ = time;
  const double left =
      (time - started_) / static_cast<double>(steps_) * static_cast<double>(report.total_steps - report.step);
  const std::string text =
      fmt::format("step {}/{} · epoch {:.2f} · loss {:.4f} · {} tokens/s · {} left · {}", report.step,
                  report.total_steps, report.epoch, loss_,
                  count_text(static_cast<int64_t>(static_cast<double>(tokens_) / std::max(seconds_, 1e-9))),
                  duration_text(left), bytes_text(memory_bytes()));
  if (!terminal_) {
    log_line(text);
    return;
  }
  const int64_t full = kBarWidth * report.step / std::max<int64_t>(1, report.total_steps);
  std::string bar;
  for (int64_t i = 0; i < kBarWidth; ++i) bar += i < full ? "█" : "░";
  fmt::print(stderr, "\r\033[K{} {}", bar, text);
  std::fflush(stderr);
  bar_ = true;
}

}  // namespace graft
