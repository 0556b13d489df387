#include "graft/peft/parts.h"

#include <algorithm>
#include <regex>

namespace graft {

bool in_head(const Model& model, const std::string& path) {
  const std::vector<std::string> heads = model.head_modules();
  return std::any_of(heads.begin(), heads.end(),
                     [&](const std::string& head) { return path.starts_with(head + "."); });
}

bool in_norm(const std::string& path) {
  static const std::regex norm(
      "(?:^|.*[._])(?:LayerNorm|layer_?norm|layernorm|ln_\\w+|norm|\\w*layernorm|\\w*layer_norm)"
      "\\.(?:weight|bias)");
  return std::regex_match(path, norm);
}

ConfigSource parts_source(const TuningMethod& method, const Json& given, const Model& model) {
  ConfigSource source(given);
  source.json.erase("name");
  if (!source.from_file) {
    source.json["graft_method"] = method.name;
    if (!model.name_or_path.empty()) source.json["base_model_name_or_path"] = model.name_or_path;
  }
  return source;
}

}  // namespace graft
