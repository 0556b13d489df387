#include "graft/session/train_defaults.h"

#include "graft/peft/adapter.h"
#include "graft/tasks/registry.h"

namespace graft {
namespace {

/// Random weights want larger steps than trained ones.
constexpr double kScratchLearningRate = 1e-3;

}  // namespace

Json train_defaults(const std::string& task, const std::vector<std::string>& methods, bool from_scratch) {
  Json defaults = task_kind(task).train_defaults;
  double of_method = 0;
  for (const std::string& method : methods) {
    const double rate = method == "none" ? 0 : tuning_method(method).learning_rate;
    // One rate for all: the most careful.
    if (rate > 0 && (of_method <= 0 || rate < of_method)) of_method = rate;
  }
  if (from_scratch) {
    defaults["learning_rate"] = kScratchLearningRate;
  } else if (of_method > 0) {
    defaults["learning_rate"] = of_method;
  }
  return defaults;
}

}  // namespace graft
