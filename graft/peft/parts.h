// Which tensors of a base belong to its heads and norms, and what methods that train tensors of the base
// themselves have in common.
#pragma once
#include <string>

#include "graft/peft/builder.h"

namespace graft {

bool in_head(const Model& model, const std::string& path);
/// By the names that families give their norms.
bool in_norm(const std::string& path);

/// Keys of every such method; their files are the trained tensors under the base's names.
struct PartsConfig {
  std::string method;
  Json base_model_name_or_path;
  Json unfreeze;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("graft_method", self.method, "name of the method");
    visit("base_model_name_or_path", self.base_model_name_or_path, "the base model");
    visit("unfreeze", self.unfreeze,
          "only tensors whose whole names this regular expression matches; null: all");
  }
  /// False for a tensor that `unfreeze` leaves out.
  bool takes(const std::string& path) const {
    return unfreeze.is_null() || matches_rule(path, unfreeze, "unfreeze");
  }
};

/// The config as the adapter's file will say it.
ConfigSource parts_source(const TuningMethod& method, const Json& given, const Model& model);

}  // namespace graft
