// Every method, listed once.
#include "graft/base/error.h"
#include "graft/peft/adapter.h"
#include "graft/peft/full.h"
#include "graft/peft/intrinsic.h"
#include "graft/peft/lora.h"

namespace graft {

const std::vector<TuningMethod>& tuning_methods() {
  static const std::vector<TuningMethod> methods = {kLora, kFull, kBitfit, kLayerNorm, kDid, kSaid};
  return methods;
}

const TuningMethod& tuning_method(const std::string& name) {
  std::vector<std::string> names;
  for (const TuningMethod& method : tuning_methods()) {
    if (name == method.name) return method;
    names.emplace_back(method.name);
  }
  throw UsageError("method", "{}, expected a known method{}", name, did_you_mean(name, names));
}

}  // namespace graft
