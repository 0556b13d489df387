// Any bytes as a safetensors file: what is accepted can be read to its last byte, and written again.
#include <ATen/ATen.h>

#include "graft/io/safetensors.h"
#include "tests/fuzz/fuzz.h"

namespace {

void read_all(const graft::Safetensors& file) {
  for (const graft::TensorEntry& entry : file.entries()) {
    const at::Tensor tensor = file.tensor(entry);
    if (tensor.sizes().vec() != entry.shape || tensor.scalar_type() != entry.dtype) std::abort();
    if (tensor.nbytes() != entry.end - entry.begin) std::abort();
    const auto* bytes = static_cast<const unsigned char*>(tensor.const_data_ptr());
    volatile unsigned char last = 0;
    for (size_t i = 0; i < tensor.nbytes(); ++i) last = bytes[i];
    static_cast<void>(last);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const graft::fuzz::Folder folder;
  const std::string_view text = graft::fuzz::text_of(data, size);
  const bool taken = graft::fuzz::accepted(
      [&] { read_all(graft::Safetensors::parse(std::as_bytes(std::span(text.data(), size)), "input")); });
  if (!taken) return 0;
  // Mapped, and once more as graft writes it.
  folder.write("input", text);
  const graft::Safetensors mapped = graft::Safetensors::open(folder.path() / "input");
  read_all(mapped);
  graft::write_safetensors(folder.path() / "again", mapped.tensors(), mapped.metadata());
  if (graft::Safetensors::open(folder.path() / "again").entries().size() != mapped.entries().size())
    std::abort();
  return 0;
}
