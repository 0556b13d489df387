// torch.save's files, tensors only: a zip archive with a pickle in it. A pickle is a program; here it is run
// by a machine that knows dictionaries, numbers, texts and tensors, and nothing else. Files from outside are
// hostile.
#pragma once
#include <filesystem>
#include <span>
#include <string>

#include "graft/io/tensor_map.h"

namespace graft {

/// A saved dictionary of tensors (a state dict), copied; tensors that share memory in the file share it here.
/// Errors: DataError (the format before PyTorch 1.6, anything in it that is no tensor, a call of any function
/// but those that make tensors, sizes that do not fit).
TensorMap read_torch_file(const std::filesystem::path& path);
/// The same of bytes in memory; `where` names them in errors.
TensorMap parse_torch_file(std::span<const std::byte> bytes, const std::string& where);

/// A safetensors file, or one of torch.save where its name ends with .bin.
TensorMap read_tensor_file(const std::filesystem::path& path);

}  // namespace graft
