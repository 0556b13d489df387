#include "graft/base/json.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/number.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

constexpr size_t kMaxDepth = 200;

/// The text and what it is called in messages.
struct Source {
  std::string_view text, where;
  int64_t line;  // 0: a whole file

  std::string name() const { return line > 0 ? fmt::format("{}:{}", where, line) : std::string(where); }
  std::string place(size_t offset) const {
    const std::string_view before = text.substr(0, std::min(offset, text.size()));
    const int64_t lines = std::count(before.begin(), before.end(), '\n') + std::max<int64_t>(line, 1);
    const size_t start = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
    return fmt::format("{}:{}:{}", where, lines, before.size() - start + 1);
  }
};

/// Builds the document as the parser goes. The library's own builder looks every key up in a list: quadratic
/// in the keys.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const Source& source) : source_(source) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(int64_t value) override { return add(value); }
  bool number_unsigned(uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& key) override {
    if (!open_.back().keys.insert(key).second)
      throw DataError(source_.name(), "key twice in one object: {}", key);
    open_.back().key = std::move(key);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: what"
    std::string_view what = error.what();
    if (const size_t colon = what.find(": "); colon != what.npos) what.remove_prefix(colon + 2);
    throw DataError(source_.place(position > 0 ? position - 1 : 0), "not JSON: {}", what);
  }

  Json document;

 private:
  struct Open {
    Json value;
    std::string key;
    std::unordered_set<std::string> keys;
  };

  bool open(Json value) {
    if (open_.size() == kMaxDepth) throw DataError(source_.name(), "nested deeper than {}", kMaxDepth);
    open_.push_back({std::move(value), {}, {}});
    return true;
  }

  bool close() {
    Json value = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(value));
  }

  bool add(Json value) {
    if (open_.empty()) {
      document = std::move(value);
    } else if (Open& parent = open_.back(); parent.value.is_array()) {
      parent.value.get_ref<Json::array_t&>().push_back(std::move(value));
    } else {
      parent.value.get_ref<Json::object_t&>().emplace_back(std::move(parent.key), std::move(value));
    }
    return true;
  }

  const Source& source_;
  std::vector<Open> open_;
};

/// As Python's json.dumps(indent=2) writes: everything outside ASCII escaped, floats as repr gives them.
void print(const Json& node, size_t depth, std::string& out) {
  if (node.is_number_float()) {
    out += python_float(node.get<double>());
  } else if (!node.is_structured() || node.empty()) {
    out += node.dump(-1, ' ', true, Json::error_handler_t::replace);
  } else {
    const bool is_object = node.is_object();
    out += is_object ? '{' : '[';
    bool first = true;
    for (const auto& [key, item] : node.items()) {
      out += first ? "\n" : ",\n";
      first = false;
      out.append(2 * (depth + 1), ' ');
      if (is_object) out += Json(key).dump(-1, ' ', true, Json::error_handler_t::replace) + ": ";
      print(item, depth + 1, out);
    }
    out += '\n';
    out.append(2 * depth, ' ');
    out += is_object ? '}' : ']';
  }
}

Json& step_into(Json& node, const std::string& key, std::string_view assignment) {
  if (node.is_null()) node = Json::object();
  if (node.is_array()) {
    const std::optional<int64_t> index = parse_integer(key);
    if (!index || *index < 0 || static_cast<size_t>(*index) >= node.size()) {
      throw UsageError(assignment, "no such list element: {}, expected 0 to {}", key,
                       static_cast<int64_t>(node.size()) - 1);
    }
    return node[static_cast<size_t>(*index)];
  }
  if (!node.is_object())
    throw UsageError(assignment, "{} lies below a plain value, expected a mapping there", key);
  return node[key];
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where, int64_t line) {
  const Source source{text, where, line};
  if (const auto offset = first_invalid_utf8(text)) throw DataError(source.place(*offset), "not UTF-8");
  Builder builder(source);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.document);
}

Json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

Json read_object(const std::filesystem::path& path) {
  Json document = read_json(path);
  if (!document.is_object()) throw DataError(path.string(), "is no mapping, expected one in braces");
  return document;
}

std::string to_pretty_json(const Json& document) {
  std::string out;
  print(document, 0, out);
  return out;
}

std::string to_line(const Json& document) {
  if (document.is_number_float() && !std::isfinite(document.get<double>())) return to_yaml(document);
  if (!document.is_structured()) return document.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string items;
  for (const auto& [key, item] : document.items()) {
    if (!items.empty()) items += ',';
    if (document.is_object()) items += to_line(Json(key)) + ":";
    items += to_line(item);
  }
  return document.is_object() ? "{" + items + "}" : "[" + items + "]";
}

void apply_override(Json& document, std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw UsageError(assignment, "not an override, expected key=value");
  }
  const std::string_view path = assignment.substr(0, equals);
  Json value;
  try {
    value = parse_yaml(assignment.substr(equals + 1), path);
  } catch (const DataError& error) {
    throw UsageError(assignment, "value is no YAML: {}", error.what());
  }
  Json* node = &document;
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('.', start), path.size());
    if (end == start) throw UsageError(assignment, "empty key, expected a.b=value");
    node = &step_into(*node, std::string(path.substr(start, end - start)), assignment);
    start = end + 1;
  }
  *node = std::move(value);
}

}  // namespace graft
