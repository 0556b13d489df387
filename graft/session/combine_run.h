// A LoRA adapter made of other adapters, or of a tuned checkpoint and its base.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "graft/peft/combine.h"
#include "graft/session/session.h"
#include "graft/session/train_run.h"

namespace graft {

struct CombineRunOptions {
  std::filesystem::path model, out;
  std::vector<AdapterChoice> adapters;  // with their weights; or
  std::filesystem::path tuned{};        // a checkpoint of the same shape, whose difference is taken
  std::string target_modules{};         // with `tuned`: names with commas between, or a regular expression
  int64_t rank = 0;                     // of the result; 0: as the rule has it
  CombineRule rule{};
};

/// Writes a plain LoRA adapter of scale 1. Errors: UsageError (adapters that act outside of linear maps and
/// embeddings; two of them with trained heads that differ; a rank where one is needed), DataError.
RunReport combine_run(const CombineRunOptions& options);

}  // namespace graft
