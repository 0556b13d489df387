// Configurations as structs with one field list, visited to read, write and document them.
//
//   struct TrainConfig {
//     double learning_rate = 1e-4;
//     template <class Self, class Visitor>
//     static void fields(Self& self, Visitor& visit) {
//       visit("learning_rate", self.learning_rate, "step size of the optimizer", at_least(0.0));
//     }
//   };
//   TrainConfig config = read_fields<TrainConfig>(json, "train");   // strict; the path stands in the message
//
// Field types: bool, int64_t, double, std::string, std::filesystem::path, Json (taken as it is),
// std::vector<T>, std::optional<T> (null), Ordered<T> (an object, in its order), and structs with fields.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/json.h"

namespace graft {

/// An object with free keys, in the file's order.
template <class T>
using Ordered = std::vector<std::pair<std::string, T>>;

/// A check of a number's range, or of a string against the allowed ones; `expected` stands in message and
/// help.
template <class T>
struct Check {
  bool (*ok)(const Check&, const T&);
  T low{}, high{};
  std::vector<T> choices;
  std::string expected;
};

template <class T>
Check<T> at_least(T low) {
  return {
      [](const Check<T>& c, const T& v) { return v >= c.low; }, low, {}, {}, fmt::format("at least {}", low)};
}
template <class T>
Check<T> above(T low) {
  return {[](const Check<T>& c, const T& v) { return v > c.low; }, low, {}, {}, fmt::format("above {}", low)};
}
/// Both ends included.
template <class T>
Check<T> between(T low, T high) {
  return {[](const Check<T>& c, const T& v) { return v >= c.low && v <= c.high; },
          low,
          high,
          {},
          fmt::format("{} to {}", low, high)};
}
Check<std::string> one_of(std::vector<std::string> choices);

template <class T>
concept HasFields = requires(T& t, int& v) {
  &T::template fields<T, int>;
};

/// Reads single values; `path` is where in the document. Errors: UsageError with path, value and what was
/// expected.
void read_value(const Json& json, bool& out, const std::string& path);
void read_value(const Json& json, int64_t& out, const std::string& path);
void read_value(const Json& json, double& out, const std::string& path);
void read_value(const Json& json, std::string& out, const std::string& path);
void read_value(const Json& json, std::filesystem::path& out, const std::string& path);
void read_value(const Json& json, Json& out, const std::string& path);
[[noreturn]] void fail_value(const Json& json, const std::string& path, std::string_view expected);

template <class T>
void read_value(const Json& json, std::vector<T>& out, const std::string& path);
template <class T>
void read_value(const Json& json, std::optional<T>& out, const std::string& path);
template <class T>
void read_value(const Json& json, Ordered<T>& out, const std::string& path);
template <HasFields T>
void read_value(const Json& json, T& out, const std::string& path);

/// Visits a field list to fill a struct from an object; then says which keys nobody asked for.
class FieldReader {
 public:
  FieldReader(const Json& object, std::string path);

  template <class T>
  void operator()(const char* name, T& value, const char*) {
    known_.push_back(name);
    if (const auto found = object_.find(name); found != object_.end()) read_value(*found, value, join(name));
  }
  template <class T>
  void operator()(const char* name, T& value, const char* help, const Check<T>& check) {
    (*this)(name, value, help);
    if (object_.contains(name) && !check.ok(check, value))
      fail_value(object_[name], join(name), check.expected);
  }

  /// Errors: UsageError naming every unknown key, with the nearest known ones.
  void refuse_unknown() const;
  /// The keys that no field has, as they stand.
  Json unknown() const;

 private:
  std::string join(std::string_view name) const;
  const Json& object_;
  std::string path_;
  std::vector<std::string> known_;
};

template <HasFields T>
T read_fields(const Json& object, const std::string& path) {
  T out;
  read_value(object, out, path);
  return out;
}

/// As read_fields, but keys without a field go to `unknown` instead of being refused.
template <HasFields T>
T read_known_fields(const Json& object, const std::string& path, Json& unknown) {
  T out;
  FieldReader reader(object, path);
  T::fields(out, reader);
  unknown = reader.unknown();
  return out;
}

template <class T>
Json write_value(const T& value);

class FieldWriter {
 public:
  template <class T, class... Rest>
  void operator()(const char* name, const T& value, Rest&&...) {
    object[name] = write_value(value);
  }
  Json object = Json::object();
};

/// Every field, defaults included.
template <HasFields T>
Json write_fields(const T& config) {
  FieldWriter writer;
  T::fields(config, writer);
  return writer.object;
}

/// One field as help and the reference page show it; `expected`: its type and what is checked of it.
struct FieldHelp {
  std::string path, default_value, expected, help;
};

/// What a field of the type takes, in the words of messages; "" for Json, which takes anything.
template <class T>
std::string type_words();
/// A type's words and a check's as one.
std::string expectation(const std::string& type, const std::string& checked);

class FieldDescriber {
 public:
  explicit FieldDescriber(std::string prefix = "") : prefix_(std::move(prefix)) {}
  template <class T>
  void operator()(const char* name, const T& value, const char* help) {
    add(name, value, help, "");
  }
  template <class T>
  void operator()(const char* name, const T& value, const char* help, const Check<T>& check) {
    add(name, value, help, check.expected);
  }
  std::vector<FieldHelp> rows;

 private:
  template <class T>
  void add(const char* name, const T& value, const char* help, const std::string& expected) {
    const std::string path = prefix_.empty() ? name : prefix_ + "." + name;
    if constexpr (HasFields<T>) {
      FieldDescriber inner(path);
      T::fields(value, inner);
      rows.push_back({path, "", "", help});
      rows.insert(rows.end(), inner.rows.begin(), inner.rows.end());
    } else {
      rows.push_back({path, write_value(value).dump(), expectation(type_words<T>(), expected), help});
    }
  }
  std::string prefix_;
};

/// The fields with `config`'s values as their defaults.
template <HasFields T>
std::vector<FieldHelp> describe_values(const T& config, const std::string& prefix = "") {
  FieldDescriber describer(prefix);
  T::fields(config, describer);
  return describer.rows;
}
template <HasFields T>
std::vector<FieldHelp> describe_fields(const std::string& prefix = "") {
  return describe_values(T{}, prefix);
}

// ---- templates' bodies

template <class T>
void read_value(const Json& json, std::vector<T>& out, const std::string& path) {
  if (!json.is_array()) fail_value(json, path, "a list");
  out.clear();
  for (size_t i = 0; i < json.size(); ++i) {
    T item{};
    read_value(json[i], item, fmt::format("{}[{}]", path, i));
    out.push_back(std::move(item));
  }
}

template <class T>
void read_value(const Json& json, std::optional<T>& out, const std::string& path) {
  out.reset();
  if (json.is_null()) return;
  T value{};
  read_value(json, value, path);
  out = std::move(value);
}

template <class T>
void read_value(const Json& json, Ordered<T>& out, const std::string& path) {
  if (!json.is_object()) fail_value(json, path, "a mapping");
  out.clear();
  for (const auto& [key, item] : json.items()) {
    T value{};
    read_value(item, value, path + "." + key);
    out.emplace_back(key, std::move(value));
  }
}

template <HasFields T>
void read_value(const Json& json, T& out, const std::string& path) {
  FieldReader reader(json, path);
  T::fields(out, reader);
  reader.refuse_unknown();
}

namespace detail {
template <class T>
struct is_ordered : std::false_type {};
template <class T>
struct is_ordered<Ordered<T>> : std::true_type {};
template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};
template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
}  // namespace detail

template <class T>
std::string type_words() {
  if constexpr (detail::is_optional<T>::value) {
    return type_words<typename T::value_type>() + " or null";
  } else if constexpr (detail::is_ordered<T>::value) {
    return "a mapping";
  } else if constexpr (detail::is_vector<T>::value) {
    return "a list";
  } else if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return "an integer";
  } else if constexpr (std::is_same_v<T, double>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return "a path";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a string";
  } else {
    return "";
  }
}

template <class T>
Json write_value(const T& value) {
  if constexpr (HasFields<T>) {
    return write_fields(value);
  } else if constexpr (detail::is_optional<T>::value) {
    return value ? write_value(*value) : Json(nullptr);
  } else if constexpr (detail::is_ordered<T>::value) {
    Json object = Json::object();
    for (const auto& [key, item] : value) object[key] = write_value(item);
    return object;
  } else if constexpr (detail::is_vector<T>::value) {
    Json list = Json::array();
    for (const auto& item : value) list.push_back(write_value(item));
    return list;
  } else if constexpr (std::is_same_v<T, std::filesystem::path>) {
    return value.string();
  } else {
    return value;
  }
}

}  // namespace graft
