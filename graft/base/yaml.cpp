#include <yaml-cpp/yaml.h>

#include <cmath>
#include <limits>
#include <unordered_set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/json.h"
#include "graft/base/number.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

constexpr int kMaxDepth = 200;
/// Aliases of aliases grow exponentially: a small file must not fill the memory.
constexpr int64_t kMaxNodes = 1'000'000;

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?, the core schema's float, integers
/// included.
bool is_decimal(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (const size_t e = text.find_first_of("eE"); e != text.npos) {
    std::string_view exponent = text.substr(e + 1);
    if (exponent.starts_with('-') || exponent.starts_with('+')) exponent.remove_prefix(1);
    if (!all_digits(exponent)) return false;
    text = text.substr(0, e);
  }
  const size_t dot = text.find('.');
  if (dot == text.npos) return all_digits(text);
  const std::string_view whole = text.substr(0, dot), part = text.substr(dot + 1);
  return (whole.empty() || all_digits(whole)) && (part.empty() || all_digits(part)) &&
         !(whole.empty() && part.empty());
}

std::optional<Json> radix_integer(std::string_view text) {
  int base = 0;
  if (text.starts_with("0x")) base = 16;
  if (text.starts_with("0o")) base = 8;
  if (base == 0 || text.size() < 3 || text.size() > 17) return {};
  const char* digits = base == 16 ? "0123456789abcdefABCDEF" : "01234567";
  if (text.find_first_not_of(digits, 2) != text.npos) return {};
  return Json(std::stoull(std::string(text.substr(2)), nullptr, base));
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

/// YAML 1.2.2, section 10.3.2. Nothing: a number that no double holds.
std::optional<Json> plain_value(const std::string& text) {
  if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return Json(nullptr);
  if (is_one_of(text, {"true", "True", "TRUE"})) return Json(true);
  if (is_one_of(text, {"false", "False", "FALSE"})) return Json(false);
  if (is_one_of(text, {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"})) return Json(HUGE_VAL);
  if (is_one_of(text, {"-.inf", "-.Inf", "-.INF"})) return Json(-HUGE_VAL);
  if (is_one_of(text, {".nan", ".NaN", ".NAN"})) return Json(std::numeric_limits<double>::quiet_NaN());
  if (std::optional<Json> number = radix_integer(text)) return number;
  if (!is_decimal(text)) return Json(text);
  if (const auto integer = parse_integer(text)) return Json(*integer);
  if (const auto number = parse_float(text)) return Json(*number);
  return {};
}

class Converter {
 public:
  explicit Converter(std::string_view where) : where_(where) {}

  Json convert(const YAML::Node& node, int depth) {
    if (depth > kMaxDepth) fail(node, fmt::format("nested deeper than {}", kMaxDepth));
    if (++nodes_ > kMaxNodes) fail(node, fmt::format("more than {} values (aliases repeat them)", kMaxNodes));
    if (!is_one_of(node.Tag(), {"", "?", "!"})) fail(node, "tags are not taken: " + node.Tag());
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return scalar(node);
      case YAML::NodeType::Sequence: {
        Json list = Json::array();
        for (const YAML::Node& item : node) list.push_back(convert(item, depth + 1));
        return list;
      }
      case YAML::NodeType::Map:
        return mapping(node, depth);
      default:
        return nullptr;
    }
  }

 private:
  [[noreturn]] void fail(const YAML::Node& node, std::string_view what) const {
    throw DataError(fmt::format("{}:{}:{}", where_, node.Mark().line + 1, node.Mark().column + 1), "{}",
                    what);
  }

  Json scalar(const YAML::Node& node) const {
    if (node.Tag() == "!") return node.Scalar();  // quoted, or a block
    const std::optional<Json> value = plain_value(node.Scalar());
    if (!value) fail(node, "number out of range: " + node.Scalar());
    return *value;
  }

  Json mapping(const YAML::Node& node, int depth) {
    Json object = Json::object();
    std::unordered_set<std::string> keys;
    for (const auto& pair : node) {
      if (!pair.first.IsScalar() && !pair.first.IsNull()) fail(pair.first, "a key must be plain text");
      const std::string key = pair.first.IsNull() ? "null" : pair.first.Scalar();
      if (!keys.insert(key).second) fail(pair.first, "key twice in one mapping: " + key);
      object.get_ref<Json::object_t&>().emplace_back(key, convert(pair.second, depth + 1));
    }
    return object;
  }

  std::string_view where_;
  int64_t nodes_ = 0;
};

/// Plain where it reads back as the same string, else double quotes as JSON has them.
std::string yaml_string(const std::string& text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const bool plain =
      !text.empty() && text.find_first_not_of(std::string(kLetters) + "0123456789_-./@+") == text.npos &&
      (kLetters.find(text[0]) != kLetters.npos || text[0] == '/' || text[0] == '_' || text[0] == '.') &&
      !is_one_of(text, {"...", "<<"});
  const std::optional<Json> value = plain_value(text);
  if (plain && value && value->is_string()) return text;
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string yaml_scalar(const Json& node) {
  if (node.is_string()) return yaml_string(node.get<std::string>());
  if (!node.is_number_float()) return node.dump();
  const double value = node.get<double>();
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  return python_float(value);
}

bool has_structure(const Json& list) {
  return std::any_of(list.begin(), list.end(), [](const Json& item) { return item.is_structured(); });
}

/// Block style, lists of plain values on one line. `out` ends behind "key:" or "-".
void print(const Json& node, size_t indent, std::string& out) {
  if (!node.is_structured()) {
    out += " " + yaml_scalar(node);
  } else if (node.empty()) {
    out += node.is_object() ? " {}" : " []";
  } else if (node.is_object()) {
    for (const auto& [key, item] : node.items()) {
      out += "\n" + std::string(indent, ' ') + yaml_string(key) + ":";
      print(item, indent + 2, out);
    }
  } else if (has_structure(node)) {
    for (const Json& item : node) {
      out += "\n" + std::string(indent, ' ') + "-";
      print(item, indent + 2, out);
    }
  } else {
    out += " [";
    for (size_t i = 0; i < node.size(); ++i) out += (i ? ", " : "") + yaml_scalar(node[i]);
    out += "]";
  }
}

}  // namespace

Json parse_yaml(std::string_view text, std::string_view where) {
  if (const auto offset = first_invalid_utf8(text)) throw DataError(where, "not UTF-8: byte {}", *offset);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.empty()) return nullptr;
    if (documents.size() > 1) throw DataError(where, "{} YAML documents, expected one", documents.size());
    return Converter(where).convert(documents[0], 0);
  } catch (const YAML::Exception& error) {
    throw DataError(fmt::format("{}:{}:{}", where, error.mark.line + 1, error.mark.column + 1),
                    "not YAML: {}", error.msg);
  }
}

Json read_yaml(const std::filesystem::path& path) { return parse_yaml(read_file(path), path.string()); }

std::string to_yaml(const Json& document) {
  std::string out;
  print(document, 0, out);
  // The first value stands behind no key.
  return out.empty() ? out : out.substr(1);
}

}  // namespace graft
