// The goldens of the text layer: JSON lines, some compressed.
#pragma once
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "graft/base/json.h"
#include "tests/shared.h"

namespace graft::test {

inline std::string read_golden(const std::string& name) {
  const std::filesystem::path path = shared_dir() / "goldens-text" / name;
  if (!std::filesystem::exists(path)) return "";
  const std::string command = (path.extension() == ".gz" ? "gzip -dc '" : "cat '") + path.string() + "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  char buffer[1 << 16];
  while (const size_t size = fread(buffer, 1, sizeof buffer, pipe.get())) text.append(buffer, size);
  return text;
}

/// The rows of one kind ("" for all); none where the goldens are not on this machine.
inline std::vector<Json> golden_rows(const std::string& name, const std::string& kind) {
  std::vector<Json> rows;
  const std::string text = read_golden(name);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    Json row = parse_json(std::string_view(text).substr(at, end - at), name);
    if (kind.empty() || row.value("t", "") == kind) rows.push_back(std::move(row));
    at = end + 1;
  }
  return rows;
}

/// A folder of one test's own, removed at its end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "graft-text-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  void copy(const std::filesystem::path& from, const std::string& name) const {
    if (std::filesystem::exists(from)) std::filesystem::copy_file(from, path_ / name);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace graft::test
