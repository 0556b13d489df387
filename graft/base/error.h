// Errors with one form, one line: `graft: [where] what is wrong: value, expected; remedy`.
// Only main and the request handler catch everything.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// What every error of graft's own is. `what()` is "[where] message"; the exit code is the program's.
class Error : public std::runtime_error {
 public:
  Error(std::string_view where, std::string_view message, int exit_code);
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// The caller's mistake: a wrong option, key or value. Exit code 2.
class UsageError : public Error {
 public:
  template <class... Args>
  UsageError(std::string_view where, fmt::format_string<Args...> message, Args&&... args)
      : Error(where, fmt::format(message, std::forward<Args>(args)...), 2) {}
};

/// A file or request that is wrong: which, and where in it. Exit code 1.
class DataError : public Error {
 public:
  template <class... Args>
  DataError(std::string_view where, fmt::format_string<Args...> message, Args&&... args)
      : Error(where, fmt::format(message, std::forward<Args>(args)...), 1) {}
};

/// Our own mistake. Exit code 1.
class InternalError : public Error {
 public:
  template <class... Args>
  InternalError(std::string_view where, fmt::format_string<Args...> message, Args&&... args)
      : Error(where, fmt::format(message, std::forward<Args>(args)...), 1) {}
};

/// The candidates most like `word` (small edit distance, or one containing the other), best first, at most
/// `count`.
std::vector<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates,
                                 size_t count = 3);

/// "; did you mean a, b?" or "" where nothing is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace graft
