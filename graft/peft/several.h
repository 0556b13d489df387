// Several adapters as one: a list of methods in a recipe, a folder for each on disk.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "graft/peft/adapter.h"

namespace graft {

/// Names the folders of several adapters, in their order; beside them.
inline constexpr const char* kAdapterList = "adapters.json";

/// `method`: a mapping with a name, or a list of such. Errors: UsageError.
Adapter create_adapter(const Json& method, Model& model, uint64_t seed);
/// The same, each made by `create`.
Adapter create_adapter(const Json& method, const std::function<Adapter(const Json& one)>& create);

/// Adapters in one, in this order: behind one sublayer each reads what the one before made of the output. A
/// head that several train is one. Errors: UsageError naming the place where two cannot meet (a linear, an
/// embedding, the model's inputs, a base tensor).
Adapter several(std::vector<Adapter> parts, std::vector<std::string> names);

/// True for a folder with one adapter or several.
bool is_adapter_folder(const std::filesystem::path& folder);
/// The folders of the single adapters: the folder itself, or its parts in order. Errors: DataError.
std::vector<std::filesystem::path> adapter_folders(const std::filesystem::path& folder);
/// The file that holds the tensors of PEFT's folder: safetensors, or torch.save's where there is only that.
std::filesystem::path peft_weights(const std::filesystem::path& folder);

}  // namespace graft
