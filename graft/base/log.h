// Progress and log lines on standard error; results never go through here.
#pragma once
#include <fmt/format.h>

#include <string_view>

namespace graft {

/// Off with --quiet; warnings stay.
void set_quiet(bool quiet);
bool quiet();
void log_line(std::string_view line);

template <class... Args>
void info(fmt::format_string<Args...> message, Args&&... args) {
  if (!quiet()) log_line(fmt::format(message, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> message, Args&&... args) {
  log_line("warning: " + fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace graft
