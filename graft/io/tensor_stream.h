// Files whose tensors are made while they are written: never more than one is held.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "graft/base/json.h"
#include "graft/io/tensor_map.h"

namespace graft {

struct TensorSpec {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t bytes() const;
};
using TensorSpecs = std::map<std::string, TensorSpec>;
TensorSpecs specs_of(const TensorMap& tensors);
/// A tensor on its way into a file: whole, or some of its rows at a time, made by several threads just before
/// they are written.
struct StreamedTensor {
  using Rows = std::function<Tensor(int64_t first, int64_t count)>;
  StreamedTensor(Tensor tensor) : whole(std::move(tensor)) {}
  explicit StreamedTensor(Rows make) : rows(std::move(make)) {}
  Tensor whole;
  Rows rows;
};
/// Called once for each name, in the file's order; gives a tensor of the promised type and shape.
using TensorSource = std::function<StreamedTensor(const std::string& name)>;

/// write_safetensors and write_checkpoint, by way of a source. Errors: InternalError where a tensor is not
/// what was promised.
void stream_safetensors(const std::filesystem::path& path, const TensorSpecs& specs,
                        const TensorSource& source, const Json& metadata = {{"format", "pt"}});
void stream_checkpoint(const std::filesystem::path& folder, const Json& config, const TensorSpecs& specs,
                       const TensorSource& source, int64_t shard_bytes);

}  // namespace graft
