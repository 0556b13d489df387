// Numbers as text: the forms that JSON, YAML and Python share.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace graft {

/// As Python's repr: shortest digits that read back equal, "8.0", "1e-05", "1e+16". Not finite: "null".
std::string python_float(double value);

/// All of `text` as a decimal integer, a sign allowed; nothing where it is none or too large.
std::optional<int64_t> parse_integer(std::string_view text);

/// All of `text` as a decimal floating-point number, a sign allowed; nothing where it is none or out of
/// range.
std::optional<double> parse_float(std::string_view text);

}  // namespace graft
