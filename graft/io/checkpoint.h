// A model folder in Hugging Face layout: config.json, model.safetensors or its shards with an index; without
// those, pytorch_model.bin or its shards.
#pragma once
#include <filesystem>

#include "graft/base/json.h"
#include "graft/io/tensor_map.h"

namespace graft {

struct Checkpoint {
  std::filesystem::path folder;
  Json config;        // config.json as it stands
  TensorMap tensors;  // all shards together; names as in the files; mapped, those of a .bin file copied

  /// Errors: DataError (no folder, no config, no weights; a shard missing, a tensor missing or in two shards;
  /// a pickle that holds more than tensors).
  static Checkpoint open(const std::filesystem::path& folder);
  /// Only config.json; `tensors` stays empty.
  static Checkpoint open_config(const std::filesystem::path& folder);
};

/// Writes config.json and model.safetensors (several shards with an index above `shard_bytes`) into an
/// existing folder, each file whole or not at all.
void write_checkpoint(const std::filesystem::path& folder, const Json& config, const TensorMap& tensors,
                      int64_t shard_bytes = int64_t{5} << 30);

/// Copies tokenizer and generation files (tokenizer.json, tokenizer.model, vocab.txt, merges.txt, …, chat
/// templates) that are there.
void copy_text_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace graft
