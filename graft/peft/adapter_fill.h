// Tensors of a file into an adapter that was made from the file's config.
#pragma once
#include <string>
#include <vector>

#include "graft/peft/adapter.h"

namespace graft {

/// `prefix` stands in front of base tensors' paths in the file. → every problem found: what is missing,
/// misshapen, or belongs to nothing.
std::vector<std::string> fill_adapter(Adapter& adapter, Model& model, const TensorMap& file,
                                      const std::string& prefix);

/// Problems as one line, the first twenty.
std::string listed_problems(const std::vector<std::string>& problems);

}  // namespace graft
