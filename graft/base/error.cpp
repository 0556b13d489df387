#include "graft/base/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace graft {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

/// A message is one line, whatever the values in it hold.
std::string one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += c == '\n' ? std::string(" ") : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Error::Error(std::string_view where, std::string_view message, int exit_code)
    : std::runtime_error(one_line(fmt::format("[{}] {}", where, message))), exit_code_(exit_code) {}

std::vector<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates,
                                 size_t count) {
  std::vector<std::pair<size_t, std::string>> scored;
  for (const std::string& candidate : candidates) {
    size_t distance = edit_distance(word, candidate);
    const bool contains =
        !word.empty() && word.size() >= 2 &&
        (candidate.find(word) != std::string::npos || word.find(candidate) != std::string_view::npos);
    if (contains) distance = std::min<size_t>(distance, 1);
    if (distance <= std::max<size_t>(2, word.size() / 3)) scored.emplace_back(distance, candidate);
  }
  std::stable_sort(scored.begin(), scored.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> out;
  for (const auto& [distance, candidate] : scored) {
    if (out.size() < count && std::find(out.begin(), out.end(), candidate) == out.end())
      out.push_back(candidate);
  }
  return out;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::vector<std::string> found = nearest(word, candidates);
  return found.empty() ? "" : fmt::format("; did you mean {}?", fmt::join(found, ", "));
}

}  // namespace graft
