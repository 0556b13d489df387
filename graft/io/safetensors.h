// The safetensors format: an 8-byte header length, a JSON header, raw tensors. Files from outside are
// hostile.
#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "graft/base/file.h"
#include "graft/base/json.h"
#include "graft/io/tensor_map.h"

namespace graft {

/// One tensor as the header describes it, checked: inside the file, not overlapping, size equal to shape ×
/// type.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin, end;  // byte range in the file
};

/// A header read and checked, the file mapped. Errors: DataError naming file, tensor and the wrong number.
class Safetensors {
 public:
  static Safetensors open(const std::filesystem::path& path);
  /// As open, on bytes in memory that outlive the reader; `where` names them in errors. Its tensors are
  /// copies.
  static Safetensors parse(std::span<const std::byte> bytes, std::string where);

  const std::vector<TensorEntry>& entries() const { return entries_; }  // by name
  const Json& metadata() const { return metadata_; }                    // "__metadata__", or {}
  /// Views on the mapped file (kept alive by the tensors); never write to them. Unaligned tensors are copied.
  TensorMap tensors() const;
  Tensor tensor(const TensorEntry& entry) const;

 private:
  std::shared_ptr<const MappedFile> file_;
  std::span<const std::byte> bytes_;
  std::string where_;
  std::vector<TensorEntry> entries_;
  Json metadata_ = Json::object();
};

/// All tensors of a file, mapped.
TensorMap read_safetensors(const std::filesystem::path& path);

/// Writes whole or not at all, in PEFT's order (wider types first, then by name), header padded to 8 bytes:
/// the same tensors always give the same bytes. Tensors may have any layout. Metadata {"format": "pt"} unless
/// given.
void write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                       const Json& metadata = {{"format", "pt"}});

/// "F32", "BF16", …: the name in the header. Errors: DataError for a type that the format has no name for.
std::string safetensors_dtype(at::ScalarType type);

}  // namespace graft
