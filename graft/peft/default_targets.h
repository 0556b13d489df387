// PEFT's default targets, by model_type.
#pragma once
#include <string>
#include <vector>

namespace graft {

enum class TargetColumn { lora, adalora, ia3, ia3_feedforward, ln_tuning, vera, fourierft, vblora };

/// The names that PEFT targets where none are given. Errors: UsageError where PEFT has no default.
std::vector<std::string> default_targets(TargetColumn column, const std::string& model_type);

}  // namespace graft
