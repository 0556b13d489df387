// What a training run leaves behind: adapter or model, effective recipe, results, model card, checkpoints.
#pragma once
#include <filesystem>

#include "graft/base/json.h"
#include "graft/peft/adapter.h"

namespace graft {

/// What to do with an output folder that is not empty.
enum class Existing { refuse, resume, overwrite };

/// Errors: UsageError where the folder is taken: not empty and neither resumed nor overwritten; or to be
/// overwritten, and no run's folder, or holding one of the run's own inputs.
void check_run_folder(const std::filesystem::path& folder, Existing existing,
                      const std::vector<std::filesystem::path>& inputs = {});
/// For what is written once (a merged model, a combined adapter). Errors: UsageError where the folder is
/// taken.
void check_new_folder(const std::filesystem::path& folder);
/// Makes the folder; overwriting empties it, resuming takes away what an interrupted writer left behind.
void open_run_folder(const std::filesystem::path& folder, Existing existing);
/// Its folder of checkpoints, made if need be, without what is no checkpoint; after recipe.yaml has been
/// written, which makes the folder a run's. → its path.
std::filesystem::path open_checkpoints(const std::filesystem::path& folder);

/// What the folder's README.md and results.json are made of.
struct RunSummary {
  std::string title;       // of the card
  std::string base_model;  // folder or name
  Json recipe;             // effective
  Json results;            // results.json
};

/// The adapter as PEFT reads it, where its method has a PEFT name; else the whole model in `save_dtype`. Text
/// files come from `text_files` (a model's folder) for a whole model.
void write_trained(const std::filesystem::path& folder, const Adapter& adapter, const Model& model,
                   at::ScalarType save_dtype, const std::filesystem::path& text_files);
/// True where write_trained writes an adapter, not a whole model.
bool writes_adapter(const Adapter& adapter);

/// README.md with PEFT's front matter.
std::string model_card(const RunSummary& summary, const Adapter& adapter, const Model& model);

}  // namespace graft
