// AdapterHub's folders (adapters 1.3): adapter_config.json, adapter.safetensors or pytorch_adapter.bin, and
// the head's head_config.json with model_head.safetensors or pytorch_model_head.bin.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "graft/peft/adapter.h"

namespace graft {

/// True for an adapter_config.json of AdapterHub's form.
bool is_adapterhub_config(const Json& config);

/// In front of a sublayer's tensors ("bert.encoder.layer.0.output.adapters.NAME."), and of those that all
/// layers share.
std::string adapterhub_key(const std::string& sublayer, const std::string& name);
/// True for ALBERT's attention, whose adapters AdapterHub gives stream and output in each other's place.
bool adapterhub_swaps(const std::string& sublayer);
std::string adapterhub_shared_key(const Model& model, const std::string& name);

/// adapter_config.json around the method's own keys; `own`: what only graft reads, with the method's name.
Json adapterhub_document(const Json& config, const Json& own, const Model& model);

/// The file's tensors under the keys that they have in `model`, whose class may be another than the saved
/// one's (AdapterModel, with or without a head). Flexible heads become the model's own where those compute
/// the same. Errors: DataError.
TensorMap read_adapterhub_tensors(const std::filesystem::path& folder, const Json& config, Model& model);
/// Writes `file` as adapter and head.
void write_adapterhub(const std::filesystem::path& folder, const AdapterFile& file, const Model& model);

/// What head_config.json says; nothing where there is none.
struct AdapterHubHead {
  std::optional<HeadKind> head;
  int64_t num_labels = 0;           // 0: it does not say
  std::vector<std::string> labels;  // by class
};
std::optional<AdapterHubHead> adapterhub_head(const std::filesystem::path& folder);

/// The file that holds the adapter's tensors. Errors: DataError where there is none.
std::filesystem::path adapterhub_weights(const std::filesystem::path& folder);

}  // namespace graft
