// The adapter that a run starts with: what its method asks of the plan and of the data.
#pragma once
#include "graft/session/experiment.h"

namespace graft {

/// From the recipe's `method`, or its list of such; where the method wants to know the number of optimizer
/// steps, and the recipe does not say, it gets the plan's; where it looks at data, it gets the training
/// batches of the first epoch in their order. Errors: UsageError.
Adapter fresh_adapter(const Experiment& experiment, const Recipe& recipe);

}  // namespace graft
