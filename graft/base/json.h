// JSON and YAML as one ordered document type, with errors that say file and place.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace graft {

/// Objects keep their keys' order: rank_pattern's first match wins, and files are written as they were read.
using Json = nlohmann::ordered_json;

/// Errors: DataError naming `where`, line and column. Nesting deeper than 200 and a key twice in one object
/// are refused. `line`: where the text is one line of a file, which.
Json parse_json(std::string_view text, std::string_view where, int64_t line = 0);
Json read_json(const std::filesystem::path& path);
/// A JSON file of one mapping. Errors: DataError.
Json read_object(const std::filesystem::path& path);

/// YAML 1.2's core schema: true/false, null, integers, floats (also 4e-4), strings; aliases are resolved,
/// tags refused.
Json parse_yaml(std::string_view text, std::string_view where);
Json read_yaml(const std::filesystem::path& path);

/// YAML text that parse_yaml reads back as the same document.
std::string to_yaml(const Json& document);

/// PEFT's and transformers' layout: 2 spaces, one list element a line, keys as they stand, no newline at the
/// end.
std::string to_pretty_json(const Json& document);

/// One line of JSON for messages; numbers that are not finite, which JSON lacks, as YAML writes them.
std::string to_line(const Json& document);

/// `a.b.c=value` sets document["a"]["b"]["c"], value read as YAML. Errors: UsageError.
void apply_override(Json& document, std::string_view assignment);

}  // namespace graft
