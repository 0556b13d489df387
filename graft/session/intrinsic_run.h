// graft intrinsic: how many free parameters a fine-tuning task needs.
#pragma once
#include "graft/session/intrinsic_config.h"
#include "graft/session/train_run.h"

namespace graft {

/// A recipe without a method, with the part `intrinsic`.
struct IntrinsicRecipe {
  Recipe recipe;
  IntrinsicSearchConfig search;
};

/// Errors: UsageError.
IntrinsicRecipe read_intrinsic_recipe(Json document);

/// Full fine-tuning, then the search, on one frozen base; the output folder gets results.json, trials.json,
/// scores.csv, figure.svg, table.md, recipe.yaml. A killed search goes on where it stood with
/// Existing::resume. Errors: UsageError, DataError.
RunReport intrinsic_run(const IntrinsicRecipe& recipe, const TrainRunOptions& options);

/// The keys of the part `intrinsic`.
std::vector<FieldHelp> intrinsic_help();

}  // namespace graft
