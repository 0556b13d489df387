#include "graft/session/train_defaults.h"

#include "graft/peft/adapter.h"
#include "graft/tasks/registry.h"

namespace graft {
namespace {

/// Random weights want larger steps than trained ones.
constexpr double kScratchLearningRate = 1e-3;

}  // namespace

Json train_defaults(const std::string& task, const std::string& method, bool from_scratch) {
  Json defaults = task_kind(task).train_defaults;
  const double of_method = method == "none" ? 0 : tuning_method(method).learning_rate;
  if (from_scratch) {
    defaults["learning_rate"] = kScratchLearningRate;
  } else if (of_method > 0) {
    defaults["learning_rate"] = of_method;
  }
  return defaults;
}

}  // namespace graft
