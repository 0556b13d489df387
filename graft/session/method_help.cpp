#include "graft/session/method_help.h"

#include <algorithm>

#include "graft/peft/adapter.h"

namespace graft {
namespace {

struct SharedRow {
  FieldHelp row;
  std::string methods;
};

/// The rows of one key.
using Key = std::vector<SharedRow>;

bool same(const FieldHelp& a, const FieldHelp& b) {
  return a.default_value == b.default_value && a.expected == b.expected && a.help == b.help;
}

void add(Key& key, const FieldHelp& row, const char* method) {
  const auto found =
      std::find_if(key.begin(), key.end(), [&](const SharedRow& other) { return same(other.row, row); });
  if (found == key.end()) {
    key.push_back({row, method});
  } else {
    found->methods += std::string(", ") + method;
  }
}

Key& key_of(std::vector<Key>& keys, const std::string& path) {
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const Key& key) { return key[0].row.path == path; });
  return found == keys.end() ? keys.emplace_back() : *found;
}

}  // namespace

std::vector<FieldHelp> help_on_methods() {
  std::vector<Key> keys;
  for (const TuningMethod& method : tuning_methods()) {
    for (const FieldHelp& row : method.help()) add(key_of(keys, row.path), row, method.name);
  }
  std::vector<FieldHelp> rows;
  for (Key& key : keys) {
    for (SharedRow& shared : key) {
      shared.row.help = fmt::format("({}) {}", shared.methods, shared.row.help);
      rows.push_back(std::move(shared.row));
    }
  }
  return rows;
}

}  // namespace graft
