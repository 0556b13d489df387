#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <sstream>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/json.h"
#include "graft/base/number.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

constexpr size_t kMaxDepth = 200;
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

/// Builds the document from the parser's events; its node graph is not needed, and its loader can loop for
/// ever.
class YamlBuilder : public YAML::EventHandler {
 public:
  explicit YamlBuilder(std::string_view where) : where_(where) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) return set_key(mark, "null");
    add(mark, nullptr, anchor, 1);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside what it names");
    if (expects_key()) fail(mark, "a key must be plain text");
    add(mark, found->second.value, 0, found->second.nodes);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    check_tag(mark, tag);
    if (expects_key()) return set_key(mark, text);
    if (tag == "!") return add(mark, text, anchor, 1);  // quoted, or a block
    const std::optional<Json> value = plain_value(text);
    if (!value) fail(mark, "number out of range: " + text);
    add(mark, *value, anchor, 1);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Json::array());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Json::object());
  }
  void OnMapEnd() override { close(); }

  Json document;

 private:
  struct Open {
    Json value;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    int64_t nodes = 1;
    bool has_key = false;
    std::string key{};
    std::unordered_set<std::string> keys{};
  };
  struct Anchored {
    Json value;
    int64_t nodes;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, std::string_view what) const {
    throw DataError(fmt::format("{}:{}:{}", where_, mark.line + 1, mark.column + 1), "{}", what);
  }
  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!is_one_of(tag, {"", "?", "!"})) fail(mark, "tags are not taken: " + tag);
  }
  bool expects_key() const {
    return !open_.empty() && open_.back().value.is_object() && !open_.back().has_key;
  }

  void set_key(const YAML::Mark& mark, const std::string& key) {
    if (!open_.back().keys.insert(key).second) fail(mark, "key twice in one mapping: " + key);
    open_.back().key = key;
    open_.back().has_key = true;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Json value) {
    check_tag(mark, tag);
    if (expects_key()) fail(mark, "a key must be plain text");
    if (open_.size() == kMaxDepth) fail(mark, fmt::format("nested deeper than {}", kMaxDepth));
    open_.push_back({std::move(value), mark, anchor});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    add(done.mark, std::move(done.value), done.anchor, done.nodes);
  }

  void add(const YAML::Mark& mark, Json value, YAML::anchor_t anchor, int64_t nodes) {
    if (open_.empty()) {
      document = std::move(value);
      return;
    }
    if (anchor != 0) anchors_.insert_or_assign(anchor, Anchored{value, nodes});
    Open& parent = open_.back();
    parent.nodes += nodes;
    total_ += nodes;
    if (std::max(total_, parent.nodes) > kMaxNodes) {
      fail(mark, fmt::format("more than {} values (aliases repeat them)", kMaxNodes));
    }
    if (parent.value.is_array()) {
      parent.value.get_ref<Json::array_t&>().push_back(std::move(value));
    } else {
      parent.value.get_ref<Json::object_t&>().emplace_back(std::move(parent.key), std::move(value));
      parent.has_key = false;
    }
  }

  std::string_view where_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  int64_t total_ = 0;
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
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    YamlBuilder builder(where);
    parser.HandleNextDocument(builder);
    YamlBuilder rest(where);
    if (parser.HandleNextDocument(rest)) throw DataError(where, "more than one YAML document, expected one");
    return std::move(builder.document);
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
