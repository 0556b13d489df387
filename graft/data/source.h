// Examples from files, with the exact position: a text field map, as rows of TSV, CSV, JSON lines, JSON lists
// or plain text give it.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graft/base/json.h"

namespace graft {

struct Example {
  Json fields;        // an object: column → value
  std::string where;  // "file:line" for messages
};

/// What a data file's columns are, where the task's preset does not know.
struct SourceOptions {
  std::string format = {};                // tsv, csv, jsonl, json, text; empty: by the name's ending
  bool header = true;                     // tsv, csv
  std::vector<std::string> columns = {};  // names where there is no header
  int64_t limit = 0;                      // read only so many examples; 0: all
};

/// A line of plain text that ends a document.
constexpr std::string_view kDocumentEnd = "<|endoftext|>";

/// The whole file as examples in its order. BOM and CR LF are taken away; empty lines are no rows. Plain text
/// gives one example a document, {"text": …} with its line ends; without kDocumentEnd lines the file is one
/// document. Errors: DataError naming file and line: missing, empty, not UTF-8, a row with too few or too
/// many columns, JSON that is none.
std::vector<Example> read_examples(const std::filesystem::path& path, const SourceOptions& options);

}  // namespace graft
