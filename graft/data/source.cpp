#include "graft/data/source.h"

#include <algorithm>
#include <set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/base/utf8.h"

namespace graft {
namespace {

/// A file's text and how many examples are wanted of it.
struct Text {
  std::string name;
  std::string text;
  int64_t limit;

  bool enough(const std::vector<Example>& examples) const {
    return limit > 0 && static_cast<int64_t>(examples.size()) >= limit;
  }
  std::string at(int64_t line) const { return fmt::format("{}:{}", name, line); }
};

/// Hands out a text's lines, counted from 1.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next() {
    if (rest_.empty()) return false;
    const size_t end = std::min(rest_.find('\n'), rest_.size());
    line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++number;
    return true;
  }
  std::string_view line;
  int64_t number = 0;

 private:
  std::string_view rest_;
};

struct Row {
  std::vector<std::string> values;
  int64_t line = 0;
};

/// GLUE's rule: split at tabs; a quotation mark is text.
class TsvRows {
 public:
  explicit TsvRows(const Text& text) : lines_(text.text) {}
  bool next(Row& row) {
    while (lines_.next()) {
      if (lines_.line.empty()) continue;
      row = {{}, lines_.number};
      std::string_view rest = lines_.line;
      for (size_t tab = rest.find('\t'); tab != rest.npos; tab = rest.find('\t')) {
        row.values.emplace_back(rest.substr(0, tab));
        rest.remove_prefix(tab + 1);
      }
      row.values.emplace_back(rest);
      return true;
    }
    return false;
  }

 private:
  Lines lines_;
};

/// RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
class CsvRows {
 public:
  explicit CsvRows(const Text& text) : text_(text) {}
  bool next(Row& row) {
    while (at_ < text_.text.size() && text_.text[at_] == '\n') ++at_, ++line_;
    if (at_ >= text_.text.size()) return false;
    row = {{}, line_};
    do {
      row.values.push_back(here() == '"' ? quoted() : plain());
    } while (take(','));
    if (!take('\n') && at_ < text_.text.size()) {
      throw DataError(text_.at(line_),
                      "text behind a closing quotation mark, expected a comma or the row's end");
    }
    return true;
  }

 private:
  char here() const { return at_ < text_.text.size() ? text_.text[at_] : '\n'; }
  bool take(char wanted) {
    if (at_ >= text_.text.size() || text_.text[at_] != wanted) return false;
    ++at_;
    line_ += wanted == '\n';
    return true;
  }
  std::string plain() {
    const size_t end = std::min(text_.text.find_first_of(",\n", at_), text_.text.size());
    std::string value = text_.text.substr(at_, end - at_);
    at_ = end;
    return value;
  }
  std::string quoted() {
    const int64_t begin = line_;
    std::string value;
    for (++at_; at_ < text_.text.size(); ++at_) {
      const char c = text_.text[at_];
      if (c != '"') {
        value += c;
        line_ += c == '\n';
      } else if (at_ + 1 < text_.text.size() && text_.text[at_ + 1] == '"') {
        value += '"';
        ++at_;
      } else {
        ++at_;
        return value;
      }
    }
    throw DataError(text_.at(begin), "a quotation mark that nothing closes");
  }

  const Text& text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

std::vector<std::string> column_names(const Text& text, const Row& header, const SourceOptions& options) {
  const std::vector<std::string>& names = options.columns.empty() ? header.values : options.columns;
  if (options.header && names.size() != header.values.size()) {
    throw DataError(text.at(header.line), "{} columns, expected {} as named", header.values.size(),
                    names.size());
  }
  const std::set<std::string> distinct(names.begin(), names.end());
  if (distinct.size() != names.size())
    throw DataError(text.at(header.line), "two columns of one name in the header");
  return names;
}

template <class Rows>
std::vector<Example> read_table(const Text& text, const SourceOptions& options) {
  if (!options.header && options.columns.empty()) {
    throw UsageError("columns", "missing, expected the columns' names: {} is read without a header",
                     text.name);
  }
  Rows rows(text);
  Row row;
  if (options.header && !rows.next(row)) return {};
  const std::vector<std::string> names = column_names(text, row, options);
  std::vector<Example> examples;
  while (!text.enough(examples) && rows.next(row)) {
    if (row.values.size() != names.size()) {
      throw DataError(text.at(row.line), "{} columns, expected {}", row.values.size(), names.size());
    }
    Json::object_t fields;
    for (size_t i = 0; i < names.size(); ++i) fields.emplace_back(names[i], std::move(row.values[i]));
    examples.push_back({std::move(fields), text.at(row.line)});
  }
  return examples;
}

Json expect_object(Json value, const std::string& where) {
  if (!value.is_object())
    throw DataError(where, "{}, expected an object with named fields", value.type_name());
  return value;
}

std::vector<Example> read_json_lines(const Text& text) {
  std::vector<Example> examples;
  Lines lines(text.text);
  while (!text.enough(examples) && lines.next()) {
    if (lines.line.find_first_not_of(" \t") == lines.line.npos) continue;
    const std::string where = text.at(lines.number);
    examples.push_back({expect_object(parse_json(lines.line, text.name, lines.number), where), where});
  }
  return examples;
}

/// The line on which each element of a JSON list begins; `text` is known to be well-formed.
std::vector<int64_t> element_lines(std::string_view text) {
  std::vector<int64_t> lines;
  int64_t line = 1, depth = 0;
  bool in_string = false, expect_element = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    line += c == '\n';
    if (in_string) {
      i += c == '\\';
      in_string = c != '"';
      continue;
    }
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') continue;
    if (expect_element && c != ']') lines.push_back(line);
    expect_element = (c == '[' && depth == 0) || (c == ',' && depth == 1);
    in_string = c == '"';
    depth += (c == '[' || c == '{') - (c == ']' || c == '}');
  }
  return lines;
}

std::vector<Example> read_json_list(const Text& text) {
  Json list = parse_json(text.text, text.name);
  if (!list.is_array()) throw DataError(text.name, "{}, expected a JSON list of objects", list.type_name());
  const std::vector<int64_t> lines = element_lines(text.text);
  std::vector<Example> examples;
  for (size_t i = 0; i < list.size() && !text.enough(examples); ++i) {
    const std::string where = text.at(lines.at(i));
    examples.push_back({expect_object(std::move(list[i]), where), where});
  }
  return examples;
}

std::vector<Example> read_documents(const Text& text) {
  std::vector<Example> examples;
  std::string document;
  int64_t begin = 1;
  const auto finish = [&](int64_t next) {
    if (document.find_first_not_of(" \t\n") != document.npos && !text.enough(examples)) {
      examples.push_back({Json{{"text", document}}, text.at(begin)});
    }
    document.clear();
    begin = next;
  };
  Lines lines(text.text);
  while (lines.next()) {
    if (lines.line == kDocumentEnd) {
      finish(lines.number + 1);
    } else {
      document.append(lines.line).append("\n");
    }
  }
  finish(0);
  return examples;
}

/// A word a line, its tag in the last column; empty lines part sentences.
std::vector<Example> read_conll(const Text& text) {
  std::vector<Example> examples;
  std::vector<std::string> tokens, tags;
  int64_t begin = 1;
  const auto finish = [&] {
    if (!tokens.empty() && !text.enough(examples))
      examples.push_back({Json{{"tokens", tokens}, {"tags", tags}}, text.at(begin)});
    tokens.clear();
    tags.clear();
  };
  Lines lines(text.text);
  while (lines.next()) {
    const size_t first = lines.line.find_first_not_of(" \t"), last = lines.line.find_last_not_of(" \t");
    if (first == lines.line.npos || lines.line.starts_with("-DOCSTART-")) {
      finish();
      continue;
    }
    const std::string_view row = lines.line.substr(first, last + 1 - first);
    const size_t word = row.find_first_of(" \t"), tag = row.find_last_of(" \t");
    if (word == row.npos)
      throw DataError(text.at(lines.number), "one column, expected a word and its tag in the last one");
    if (tokens.empty()) begin = lines.number;
    tokens.emplace_back(row.substr(0, word));
    tags.emplace_back(row.substr(tag + 1));
  }
  finish();
  return examples;
}

void check_utf8(const Text& text) {
  if (const auto offset = first_invalid_utf8(text.text)) {
    const auto end = text.text.begin() + static_cast<std::ptrdiff_t>(*offset);
    throw DataError(text.at(std::count(text.text.begin(), end, '\n') + 1), "not UTF-8: byte 0x{:02x}",
                    static_cast<unsigned char>(text.text[*offset]));
  }
}

void clean(std::string& text) {
  drop_byte_order_mark(text);
  if (text.find('\r') == text.npos) return;
  size_t to = 0;
  for (size_t from = 0; from < text.size(); ++from) {
    if (text[from] == '\r' && (from + 1 == text.size() || text[from + 1] == '\n')) continue;
    text[to++] = text[from];
  }
  text.resize(to);
}

std::string format_of(const std::filesystem::path& path, const SourceOptions& options) {
  if (!options.format.empty()) return options.format;
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const char* known : {"tsv", "csv", "jsonl", "json", "conll"}) {
    if (ending == std::string(".") + known) return known;
  }
  if (ending == ".ndjson") return "jsonl";
  if (ending == ".txt" || ending == ".text" || ending == ".raw") return "text";
  throw UsageError(
      path.string(),
      "no known ending: {}, expected .tsv, .csv, .jsonl, .json, .conll or .txt; or say the format", ending);
}

std::vector<Example> read_as(const std::string& format, const Text& text, const SourceOptions& options) {
  if (format == "tsv") return read_table<TsvRows>(text, options);
  if (format == "csv") return read_table<CsvRows>(text, options);
  if (format == "jsonl") return read_json_lines(text);
  if (format == "conll") return read_conll(text);
  if (format == "text") return read_documents(text);
  if (format != "json") {
    throw UsageError("format", "unknown format: {}, expected one of tsv, csv, jsonl, json, conll, text",
                     format);
  }
  // JSON lines are often called .json.
  const size_t first = text.text.find_first_not_of(" \t\n");
  return first != text.text.npos && text.text[first] == '{' ? read_json_lines(text) : read_json_list(text);
}

}  // namespace

std::vector<Example> read_examples(const std::filesystem::path& path, const SourceOptions& options) {
  const std::string format = format_of(path, options);
  Text text{path.string(), read_file(path), options.limit};
  clean(text.text);
  check_utf8(text);
  if (text.text.find_first_not_of(" \t\n") == text.text.npos)
    throw DataError(text.name, "is empty, expected examples");
  std::vector<Example> examples = read_as(format, text, options);
  if (examples.empty()) throw DataError(text.name, "holds no examples");
  return examples;
}

}  // namespace graft
