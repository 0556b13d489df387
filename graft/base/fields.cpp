#include "graft/base/fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace graft {

Check<std::string> one_of(std::vector<std::string> choices) {
  std::string expected = fmt::format("one of {}", fmt::join(choices, ", "));
  return {[](const Check<std::string>& c, const std::string& v) {
            return std::find(c.choices.begin(), c.choices.end(), v) != c.choices.end();
          },
          {},
          {},
          std::move(choices),
          std::move(expected)};
}

std::string expectation(const std::string& type, const std::string& checked) {
  if (checked.empty()) return type;
  return type.empty() || checked.starts_with("one of") ? checked : type + ", " + checked;
}

void fail_value(const Json& json, const std::string& path, std::string_view expected) {
  std::string shown = to_line(json);
  if (shown.size() > 80) shown = shown.substr(0, 77) + "...";
  throw UsageError(path, "wrong value: {}, expected {}", shown, expected);
}

void read_value(const Json& json, bool& out, const std::string& path) {
  if (!json.is_boolean()) fail_value(json, path, "true or false");
  out = json.get<bool>();
}

void read_value(const Json& json, int64_t& out, const std::string& path) {
  if (json.is_number_unsigned() && json.get<uint64_t>() <= INT64_MAX) {
    out = static_cast<int64_t>(json.get<uint64_t>());
  } else if (json.is_number_integer() && !json.is_number_unsigned()) {
    out = json.get<int64_t>();
  } else if (json.is_number_float() && std::abs(json.get<double>()) < 9e15 &&
             json.get<double>() == std::floor(json.get<double>())) {
    out = static_cast<int64_t>(json.get<double>());
  } else {
    fail_value(json, path, "an integer");
  }
}

void read_value(const Json& json, double& out, const std::string& path) {
  if (!json.is_number()) fail_value(json, path, "a number");
  out = json.get<double>();
  if (!std::isfinite(out)) fail_value(json, path, "a finite number");
}

void read_value(const Json& json, std::string& out, const std::string& path) {
  if (!json.is_string()) fail_value(json, path, "a string");
  out = json.get<std::string>();
}

void read_value(const Json& json, std::filesystem::path& out, const std::string& path) {
  std::string text;
  read_value(json, text, path);
  out = text;
}

void read_value(const Json& json, Json& out, const std::string&) { out = json; }

FieldReader::FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object_.is_object()) fail_value(object_, path_, "a mapping");
}

std::string FieldReader::join(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Json FieldReader::unknown() const {
  Json out = Json::object();
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) out[key] = value;
  }
  return out;
}

void FieldReader::refuse_unknown() const {
  const Json extra = unknown();
  if (extra.empty()) return;
  const std::string key = extra.begin().key();
  std::string others;
  if (extra.size() > 1) {
    std::vector<std::string> names;
    for (const auto& [name, value] : extra.items()) names.push_back(name);
    others = fmt::format(" (unknown keys: {})", fmt::join(names, ", "));
  }
  const std::string hint = did_you_mean(key, known_);
  throw UsageError(join(key), "unknown key{}{}", others,
                   hint.empty() ? fmt::format(", expected one of {}", fmt::join(known_, ", ")) : hint);
}

}  // namespace graft
