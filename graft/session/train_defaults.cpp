#include "graft/session/train_defaults.h"

#include "graft/tasks/registry.h"

namespace graft {
namespace {

// Whole models move with far smaller steps than fresh adapters; random weights with larger ones.
constexpr double kFullLearningRate = 2e-5;
constexpr double kScratchLearningRate = 1e-3;

}  // namespace

Json train_defaults(const std::string& task, const std::string& method, bool from_scratch) {
  Json defaults = task_kind(task).train_defaults;
  if (from_scratch) {
    defaults["learning_rate"] = kScratchLearningRate;
  } else if (method == "full") {
    defaults["learning_rate"] = kFullLearningRate;
  }
  return defaults;
}

}  // namespace graft
