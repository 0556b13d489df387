#include "graft/peft/targets.h"

#include <algorithm>
#include <regex>
#include <set>

#include "graft/base/error.h"
#include "graft/base/fields.h"

namespace graft {
namespace {

constexpr size_t kLongestPattern = 4096;

/// Python's named groups and end anchor in ECMAScript's words.
std::string translated(const std::string& pattern) {
  std::string out;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.compare(i, 4, "(?P<") == 0) {
      const size_t end = pattern.find('>', i);
      if (end != std::string::npos) {
        out += '(';
        i = end;
        continue;
      }
    }
    if (pattern[i] == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 'A') {
        out += '^';
      } else if (next == 'Z') {
        out += '$';
      } else {
        out += '\\';
        out += next;
      }
      continue;
    }
    out += pattern[i];
  }
  return out;
}

std::regex compile(const std::string& pattern, const std::string& where) {
  if (pattern.size() > kLongestPattern) {
    throw UsageError(where, "regular expression of {} characters, expected at most {}", pattern.size(),
                     kLongestPattern);
  }
  try {
    return std::regex(translated(pattern), std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    throw UsageError(where, "regular expression '{}': {}, expected one that Python and ECMAScript share",
                     pattern, error.what());
  }
}

std::vector<std::string> names_of(const Json& value, const std::string& where) {
  std::vector<std::string> names;
  if (value.is_null()) return names;
  if (value.is_string()) return {value.get<std::string>()};
  read_value(value, names, where);
  return names;
}

/// A number in a rule, or a list of them; empty: no rule.
std::vector<int64_t> layers_of(const Json& value) {
  std::vector<int64_t> layers;
  if (value.is_null()) return layers;
  if (value.is_number()) {
    layers.emplace_back();
    read_value(value, layers.back(), "layers_to_transform");
    return layers;
  }
  read_value(value, layers, "layers_to_transform");
  return layers;
}

/// The path's layer index by PEFT's rule; -1 where it has none.
int64_t layer_index(const std::string& path, const std::vector<std::regex>& patterns) {
  for (const std::regex& pattern : patterns) {
    std::smatch match;
    if (!std::regex_search(path, match, pattern, std::regex_constants::match_continuous)) continue;
    const std::string digits = match[1].str();
    if (digits.size() > 9) return -1;
    return std::stoll(digits);
  }
  return -1;
}

std::vector<std::regex> layer_patterns(const Json& layers_pattern) {
  std::vector<std::regex> patterns;
  for (const std::string& name : names_of(layers_pattern, "layers_pattern")) {
    if (!name.empty()) patterns.push_back(compile("(?:|.*?\\.)" + name + "\\.(\\d+)\\.", "layers_pattern"));
  }
  if (patterns.empty()) patterns.push_back(compile(".*?\\.[^.]*\\.(\\d+)\\.", "layers_pattern"));
  return patterns;
}

bool below_saved(const std::string& path, const std::vector<std::string>& modules_to_save) {
  const std::string dotted = "." + path + ".";
  return std::any_of(modules_to_save.begin(), modules_to_save.end(), [&](const std::string& name) {
    return dotted.find("." + name + ".") != std::string::npos;
  });
}

/// Decides for one path; holds what is worked out once.
class Matcher {
 public:
  Matcher(Model& model, const TargetRules& rules)
      : rules_(rules), layers_(layers_of(rules.layers_to_transform)) {
    all_linear_ = is_all_linear(rules.target_modules);
    if (!all_linear_ && rules.target_modules.is_string()) {
      if (!layers_.empty() || !rules.layers_pattern.is_null()) {
        throw UsageError("layers_to_transform",
                         "with a regular expression in target_modules, expected a list of names there");
      }
    } else if (!all_linear_) {
      names_of(rules.target_modules, "target_modules");
    }
    if (layers_.empty() && !names_of(rules.layers_pattern, "layers_pattern").empty()) {
      throw UsageError("layers_pattern", "without layers_to_transform, expected both");
    }
    patterns_ = layer_patterns(rules.layers_pattern);
    head_ = model.output_embedding();
    heads_ = model.head_modules();
  }

  bool operator()(const std::string& path, const Module* module) const {
    if (below_saved(path, rules_.modules_to_save)) return false;
    if (matches_rule(path, rules_.exclude_modules, "exclude_modules")) return false;
    if (all_linear_) {
      return dynamic_cast<const Linear*>(module) && module != head_ &&
             std::find(heads_.begin(), heads_.end(), path) == heads_.end() && in_layers(path);
    }
    if (rules_.target_modules.is_string()) return matches_rule(path, rules_.target_modules, "target_modules");
    for (const Json& name : rules_.target_modules) {
      if (path == name.get<std::string>()) return true;
    }
    return matches_rule(path, rules_.target_modules, "target_modules") && in_layers(path);
  }

 private:
  bool in_layers(const std::string& path) const {
    if (layers_.empty()) return true;
    return std::find(layers_.begin(), layers_.end(), layer_index(path, patterns_)) != layers_.end();
  }

  const TargetRules& rules_;
  std::vector<int64_t> layers_;
  std::vector<std::regex> patterns_;
  bool all_linear_ = false;
  const Module* head_ = nullptr;
  std::vector<std::string> heads_;
};

[[noreturn]] void fail_nothing(Model& model, const TargetRules& rules) {
  std::set<std::string> leaves;
  for (const auto& [path, module] : model.named_modules()) {
    if (dynamic_cast<Linear*>(module) || dynamic_cast<Embedding*>(module)) {
      leaves.insert(path.substr(path.rfind('.') + 1));
    }
  }
  std::string first;
  if (rules.target_modules.is_string()) first = rules.target_modules.get<std::string>();
  if (rules.target_modules.is_array() && !rules.target_modules.empty()) {
    first = rules.target_modules[0].get<std::string>();
  }
  const std::vector<std::string> known(leaves.begin(), leaves.end());
  std::string hint = did_you_mean(first.substr(first.rfind('.') + 1), known);
  if (hint.empty()) {
    hint = "; this model has";
    for (const std::string& leaf : known) hint += " " + leaf;
  }
  if (!rules.layers_to_transform.is_null()) {
    hint += "; layers_to_transform is " + rules.layers_to_transform.dump();
  }
  throw UsageError("target_modules", "{} matches no module of this model, expected names of its maps{}",
                   rules.target_modules.dump(), hint);
}

/// Of the first key that, behind `before`, matches the path.
double first_value(const std::string& path, const Json& patterns, const std::string& before, double otherwise,
                   const std::string& where) {
  if (patterns.is_null()) return otherwise;
  if (!patterns.is_object()) fail_value(patterns, where, "a mapping of patterns to numbers");
  for (const auto& [key, value] : patterns.items()) {
    if (!matches_regex(path, before + "(?:" + key + ")", where)) continue;
    double number = 0;
    read_value(value, number, where + "." + key);
    return number;
  }
  return otherwise;
}

}  // namespace

bool is_all_linear(const Json& rule) {
  if (!rule.is_string()) return false;
  std::string text = rule.get<std::string>();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return text == "all-linear";
}

bool ends_with_name(const std::string& path, const std::string& name) {
  return path == name ||
         (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

bool matches_regex(const std::string& text, const std::string& pattern, const std::string& where) {
  return std::regex_match(text, compile(pattern, where));
}

bool matches_rule(const std::string& path, const Json& rule, const std::string& where) {
  if (rule.is_null()) return false;
  if (rule.is_string()) return matches_regex(path, rule.get<std::string>(), where);
  const std::vector<std::string> names = names_of(rule, where);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return ends_with_name(path, name); });
}

double pattern_value(const std::string& path, const Json& patterns, double otherwise,
                     const std::string& where) {
  return first_value(path, patterns, "(?:.*\\.)?", otherwise, where);
}

double pattern_value_below(const std::string& path, const Json& patterns, double otherwise,
                           const std::string& where) {
  return first_value(path, patterns, ".*\\.", otherwise, where);
}

std::vector<std::string> module_paths(Model& model) {
  std::vector<std::string> paths;
  std::set<std::string> seen;
  const auto add = [&](const std::string& path) {
    if (!path.empty() && seen.insert(path).second) paths.push_back(path);
  };
  // Names between the dots are modules in PEFT, whether or not they are objects here.
  const auto add_with_parents = [&](const std::string& path) {
    for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1)) {
      add(path.substr(0, dot));
    }
  };
  for (const auto& [path, module] : model.named_modules()) {
    add_with_parents(path);
    add(path);
  }
  for (const auto& [path, parameter] : model.named_parameters(true)) add_with_parents(path);
  return paths;
}

Targets find_targets(Model& model, const TargetRules& rules) {
  const Matcher matches(model, rules);
  Targets targets;
  std::string refused;
  for (const auto& [path, module] : model.named_modules()) {
    if (path.empty() || !matches(path, module)) continue;
    if (auto* linear = dynamic_cast<Linear*>(module)) {
      targets.linears.emplace_back(path, linear);
    } else if (auto* embedding = dynamic_cast<Embedding*>(module)) {
      targets.embeddings.emplace_back(path, embedding);
    } else if (!dynamic_cast<Sublayer*>(module) && refused.empty()) {
      refused = path;
    }
  }
  if (targets.linears.empty() && targets.embeddings.empty()) fail_nothing(model, rules);
  if (!refused.empty()) {
    throw UsageError("target_modules", "{} catches {}, expected linear maps and embeddings only",
                     rules.target_modules.dump(), refused);
  }
  return targets;
}

Json resolved_targets(Model& model, const Targets& targets) {
  std::set<std::string> paths;
  for (const auto& [path, linear] : targets.linears) paths.insert(path);
  const auto suffixes = [](const std::string& path) {  // shortest first
    std::vector<std::string> out;
    for (size_t dot = path.rfind('.');; dot = path.rfind('.', dot - 1)) {
      out.push_back(dot == std::string::npos ? path : path.substr(dot + 1));
      if (dot == std::string::npos || dot == 0) return out;
    }
  };
  std::set<std::string> others;
  for (const std::string& path : module_paths(model)) {
    if (paths.count(path)) continue;
    for (const std::string& suffix : suffixes(path)) others.insert(suffix);
  }
  std::set<std::string> needed;
  for (const std::string& path : paths) {
    const bool covered = std::any_of(needed.begin(), needed.end(),
                                     [&](const std::string& name) { return ends_with_name(path, name); });
    if (covered) continue;
    for (const std::string& suffix : suffixes(path)) {
      if (others.count(suffix)) continue;
      needed.insert(suffix);
      break;
    }
  }
  // PEFT shortens lists of twenty names and more.
  constexpr size_t kShortened = 20;
  const std::set<std::string>& chosen =
      paths.size() >= kShortened && needed.size() < paths.size() ? needed : paths;
  return Json(std::vector<std::string>(chosen.begin(), chosen.end()));
}

std::vector<std::string> unmatched_names(Model& model, const Json& names) {
  std::vector<std::string> out;
  if (!names.is_array()) return out;
  const std::vector<std::string> paths = module_paths(model);
  for (const Json& name : names) {
    const bool known =
        name.is_string() && std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
          return below_saved(path, {name.get<std::string>()});
        });
    if (name.is_string() && !known) out.push_back(name.get<std::string>());
  }
  return out;
}

}  // namespace graft
