#include "graft/io/checkpoint.h"

#include <ATen/ATen.h>

#include <set>

#include "graft/base/error.h"
#include "graft/base/file.h"
#include "graft/io/safetensors.h"
#include "graft/io/tensor_stream.h"
#include "graft/io/torch_file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhole = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kPickled = "pytorch_model.bin";
constexpr const char* kPickledIndex = "pytorch_model.bin.index.json";

constexpr const char* kTextFiles[] = {"tokenizer.json",
                                      "tokenizer.model",
                                      "spiece.model",
                                      "spm.model",
                                      "vocab.txt",
                                      "sentencepiece.bpe.model",
                                      "vocab.json",
                                      "merges.txt",
                                      "added_tokens.json",
                                      "special_tokens_map.json",
                                      "tokenizer_config.json",
                                      "generation_config.json",
                                      "chat_template.json",
                                      "chat_template.jinja"};

/// A shard lies beside its index: a name that leads elsewhere is refused.
fs::path shard_path(const fs::path& index, const Json& name, const std::string& tensor) {
  const fs::path folder = index.parent_path();
  if (!name.is_string())
    throw DataError(index.string(), "tensor {}: its file is {}, expected a name", tensor, name.type_name());
  const fs::path file = name.get<std::string>();
  if (file.empty() || file.filename() != file || file == ".." || file == ".") {
    throw DataError(index.string(), "tensor {}: file {}, expected a name without a folder", tensor,
                    file.string());
  }
  if (!fs::exists(folder / file)) throw DataError(index.string(), "file {} is missing", file.string());
  return folder / file;
}

TensorMap read_shards(const fs::path& index) {
  const Json document = read_json(index);
  if (!document.is_object() || !document.contains("weight_map") || !document["weight_map"].is_object()) {
    throw DataError(index.string(), "no weight_map, expected tensor names with their files");
  }
  std::map<fs::path, std::set<std::string>> expected;
  for (const auto& [name, file] : document["weight_map"].items())
    expected[shard_path(index, file, name)].insert(name);
  TensorMap tensors;
  for (const auto& [path, names] : expected) {
    TensorMap shard = read_tensor_file(path);
    for (const std::string& name : names) {
      if (!shard.contains(name))
        throw DataError(path.string(), "tensor {} is missing, {} says it is here", name,
                        index.filename().string());
    }
    tensors.merge(shard);
    if (!shard.empty()) {
      throw DataError(path.string(), "tensor {} is in another file of the checkpoint too",
                      shard.begin()->first);
    }
  }
  return tensors;
}

using Shard = std::vector<std::string>;

/// Names in order, cut where a file would pass `limit` bytes (at least one tensor a file).
std::vector<Shard> split(const TensorSpecs& specs, int64_t limit) {
  std::vector<Shard> shards(1);
  size_t bytes = 0;
  for (const auto& [name, spec] : specs) {
    if (!shards.back().empty() && bytes + spec.bytes() > static_cast<size_t>(limit)) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(name);
    bytes += spec.bytes();
  }
  return shards;
}

void write_shards(const fs::path& folder, const TensorSpecs& specs, const TensorSource& source,
                  const std::vector<Shard>& shards) {
  Json weight_map = Json::object();
  size_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    TensorSpecs part;
    for (const std::string& name : shards[i]) {
      part.emplace(name, specs.at(name));
      total += specs.at(name).bytes();
      weight_map.get_ref<Json::object_t&>().emplace_back(name, file);
    }
    stream_safetensors(folder / file, part, source);
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(folder / kIndex, to_pretty_json(index) + "\n");
}

}  // namespace

Checkpoint Checkpoint::open_config(const fs::path& folder) {
  if (!fs::exists(folder)) throw DataError(folder.string(), "no such folder, expected a model's folder");
  if (!fs::is_directory(folder)) throw DataError(folder.string(), "is a file, expected a model's folder");
  if (!fs::exists(folder / "config.json")) {
    if (fs::exists(folder / "adapter_config.json")) {
      throw DataError(folder.string(), "is an adapter's folder, expected a model's (with config.json)");
    }
    throw DataError(folder.string(), "no config.json in the folder, expected a model's folder");
  }
  return {folder, read_object(folder / "config.json"), {}};
}

Checkpoint Checkpoint::open(const fs::path& folder) {
  Checkpoint out = open_config(folder);
  for (const auto& [whole, index] : {std::pair{kWhole, kIndex}, std::pair{kPickled, kPickledIndex}}) {
    if (fs::exists(folder / whole)) {
      out.tensors = read_tensor_file(folder / whole);
      return out;
    }
    if (fs::exists(folder / index)) {
      out.tensors = read_shards(folder / index);
      return out;
    }
  }
  throw DataError(folder.string(), "no weights in the folder, expected {} or {}, {} or {}", kWhole, kIndex,
                  kPickled, kPickledIndex);
}

void stream_checkpoint(const fs::path& folder, const Json& config, const TensorSpecs& specs,
                       const TensorSource& source, int64_t shard_bytes) {
  write_file(folder / "config.json", to_pretty_json(config) + "\n");
  const std::vector<Shard> shards = split(specs, shard_bytes);
  // Readers take one form before the other: what an earlier writing left of the other form goes away.
  if (shards.size() == 1) {
    stream_safetensors(folder / kWhole, specs, source);
    fs::remove(folder / kIndex);
  } else {
    write_shards(folder, specs, source, shards);
    fs::remove(folder / kWhole);
  }
}

void write_checkpoint(const fs::path& folder, const Json& config, const TensorMap& tensors,
                      int64_t shard_bytes) {
  const auto source = [&](const std::string& name) { return tensors.at(name); };
  stream_checkpoint(folder, config, specs_of(tensors), source, shard_bytes);
}

void copy_text_files(const fs::path& from, const fs::path& to) {
  std::error_code ignored;
  if (fs::equivalent(from, to, ignored)) return;
  for (const char* name : kTextFiles) {
    if (fs::is_regular_file(from / name)) write_file(to / name, read_file(from / name));
  }
}

}  // namespace graft
