// The `data:` part of a recipe: files, and how their columns are to be read.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "graft/base/fields.h"

namespace graft {

struct DataConfig {
  std::filesystem::path train, validation, test;
  std::string format;
  bool header = true;
  std::vector<std::string> names;
  Ordered<std::string> columns;
  int64_t limit = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("train", self.train, "file that is trained on");
    visit("validation", self.validation, "file that decides which state is the best; empty: none");
    visit("test", self.test, "file for `graft eval --split test`; empty: none");
    visit("format", self.format, "format of the files; empty: by the name's ending",
          one_of({"", "tsv", "csv", "jsonl", "json", "text"}));
    visit("header", self.header, "the first line of a tsv or csv file names its columns");
    visit("names", self.names, "names of the columns where there is no header");
    visit("columns", self.columns,
          "which column is what: text, text_pair, label, or instruction, input, output, messages, tools");
    visit("limit", self.limit, "only so many examples of each file; 0: all", at_least<int64_t>(0));
  }

  /// The file's column for a role ("text", "label" …); `otherwise` where the recipe does not say.
  std::string column(const std::string& role, const std::string& otherwise) const {
    for (const auto& [key, name] : columns) {
      if (key == role) return name;
    }
    return otherwise;
  }
};

}  // namespace graft
