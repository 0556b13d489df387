#include "graft/base/number.h"

#include <charconv>
#include <cmath>

namespace graft {
namespace {

template <class T>
std::optional<T> parse_all(std::string_view text) {
  // from_chars knows no plus sign; "+-1" is no number.
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return {};
  }
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || text.empty()) return {};
  return value;
}

}  // namespace

std::string python_float(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[64];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(scientific.ptr - buffer));
  const size_t e = text.find('e');
  const int64_t exponent = parse_integer(text.substr(e + 1)).value_or(0);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::optional<int64_t> parse_integer(std::string_view text) { return parse_all<int64_t>(text); }

std::optional<double> parse_float(std::string_view text) { return parse_all<double>(text); }

}  // namespace graft
