#include "graft/base/field_help.h"

#include "graft/base/error.h"

namespace graft {

std::vector<FieldHelp> rows_of(const std::vector<FieldHelp>& rows, const std::string& key) {
  std::vector<FieldHelp> found;
  std::vector<std::string> names;
  for (const FieldHelp& row : rows) {
    names.push_back(row.path);
    const bool named = row.path == key || row.path.starts_with(key + ".") || row.path.ends_with("." + key);
    if (key.empty() || named) found.push_back(row);
  }
  if (found.empty()) throw UsageError("help", "no key {}{}", key, did_you_mean(key, names));
  return found;
}

std::string help_text(const std::vector<FieldHelp>& rows) {
  std::string text;
  for (const FieldHelp& row : rows) {
    text +=
        fmt::format("{}{}{}\n    {}\n", row.path, row.default_value.empty() ? "" : " = " + row.default_value,
                    row.expected.empty() ? "" : "  (" + row.expected + ")", row.help);
  }
  return text;
}

Json help_document(const std::vector<FieldHelp>& rows) {
  Json out = Json::array();
  for (const FieldHelp& row : rows) {
    out.push_back(
        {{"key", row.path}, {"default", row.default_value}, {"expected", row.expected}, {"help", row.help}});
  }
  return out;
}

}  // namespace graft
