// Checks of the numbers that options take, in the words of the program's other errors.
#pragma once
#include <CLI/App.hpp>
#include <cmath>
#include <string>

#include "graft/base/fields.h"
#include "graft/base/number.h"

namespace graft::cli {

/// For CLI::Option::check: all of the text is a finite number that `check` takes. T: int64_t, double.
template <class T>
CLI::Validator number(const Check<T>& check) {
  const auto judge = [check](const std::string& text) -> std::string {
    std::optional<T> value;
    if constexpr (std::is_same_v<T, double>) {
      value = parse_float(text);
    } else {
      value = parse_integer(text);
    }
    if (value && std::isfinite(static_cast<double>(*value)) && check.ok(check, *value)) return "";
    return fmt::format("{}, expected {}", text, expectation(type_words<T>(), check.expected));
  };
  return {judge, check.expected};
}

}  // namespace graft::cli
