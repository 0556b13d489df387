// Which linears and embeddings a method acts on: PEFT's matching of module paths.
#pragma once
#include <string>
#include <vector>

#include "graft/models/model.h"

namespace graft {

/// PEFT's keys, as they stand in a config.
struct TargetRules {
  Json target_modules;                       // a list of names, a regular expression, or "all-linear"
  Json exclude_modules;                      // null, a list of names, or a regular expression
  Json layers_to_transform;                  // null, an index, or a list of indices
  Json layers_pattern;                       // null, a name, or a list of names
  std::vector<std::string> modules_to_save;  // never targets, nor anything below them
};

struct Targets {
  std::vector<std::pair<std::string, Linear*>> linears;        // by module path, in the model's order
  std::vector<std::pair<std::string, Embedding*>> embeddings;  // likewise
};

/// Errors: UsageError (nothing matches: the nearest names; a bad regular expression; a key of a wrong type).
Targets find_targets(Model& model, const TargetRules& rules);

/// "all-linear" as PEFT saves it: the fewest names that catch exactly these modules, or the modules' paths.
Json resolved_targets(Model& model, const Targets& targets);

/// True where `path` is `name` or ends with "." + name.
bool ends_with_name(const std::string& path, const std::string& name);

/// True where the whole path matches one of a list's names, or the regular expression. null matches nothing.
bool matches_rule(const std::string& path, const Json& rule, const std::string& where);

/// Python's re.fullmatch for the syntax that both know. Errors: UsageError for a pattern that is none.
bool matches_regex(const std::string& text, const std::string& pattern, const std::string& where);

/// rank_pattern and alpha_pattern: the value of the first key that matches the path; else `otherwise`.
double pattern_value(const std::string& path, const Json& patterns, double otherwise,
                     const std::string& where);
/// n_frequency_pattern and block_size_pattern: likewise, but a key stands behind a dot.
double pattern_value_below(const std::string& path, const Json& patterns, double otherwise,
                           const std::string& where);

/// Names of a list in a config that fit no module; nothing for what is no list.
std::vector<std::string> unmatched_names(Model& model, const Json& names);

/// True for "all-linear" in any case.
bool is_all_linear(const Json& rule);

/// Paths of all modules that hold tensors or other modules, in the model's order, without "".
std::vector<std::string> module_paths(Model& model);

}  // namespace graft
