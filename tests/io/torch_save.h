// Files as torch.save writes them, made by hand: a stored zip archive with a pickle of protocol 2.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "graft/io/tensor_map.h"

namespace graft::test {

inline std::string little(uint64_t value, int width) {
  std::string out;
  for (int i = 0; i < width; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

/// A zip archive as torch.save lays it out, entries stored.
inline std::string zip(const std::vector<std::pair<std::string, std::string>>& entries, uint16_t method = 0) {
  std::string out, directory;
  for (const auto& [name, bytes] : entries) {
    const std::string sizes =
        little(0, 4) + little(bytes.size(), 4) + little(bytes.size(), 4) + little(name.size(), 2);
    const uint64_t at = out.size();
    out += little(0x04034b50, 4) + little(20, 2) + little(0, 2) + little(method, 2) + little(0, 4) + sizes +
           little(0, 2) + name + bytes;
    directory += little(0x02014b50, 4) + little(20, 2) + little(20, 2) + little(0, 2) + little(method, 2) +
                 little(0, 4) + sizes + little(0, 2) + little(0, 2) + little(0, 8) + little(at, 4) + name;
  }
  const uint64_t begin = out.size();
  return out + directory + little(0x06054b50, 4) + little(0, 4) + little(entries.size(), 2) +
         little(entries.size(), 2) + little(directory.size(), 4) + little(begin, 4) + little(0, 2);
}

inline std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
inline std::string integer(int64_t value) { return "J" + little(static_cast<uint64_t>(value), 4); }
inline std::string pair(int64_t a, int64_t b) { return integer(a) + integer(b) + "\x86"; }

/// A tuple of any length.
inline std::string tuple(c10::IntArrayRef values) {
  std::string out = "(";
  for (const int64_t value : values) out += integer(value);
  return out + "t";
}

/// A state dict of float32 tensors; those that share memory share a storage.
inline std::string torch_save(const TensorMap& tensors) {
  std::map<const void*, std::string> keys;
  std::vector<std::pair<std::string, std::string>> entries{{"archive/data.pkl", ""},
                                                           {"archive/byteorder", "little"}};
  std::string items;
  for (const auto& [name, tensor] : tensors) {
    const auto& storage = tensor.storage();
    const auto [at, fresh] = keys.emplace(storage.data(), std::to_string(keys.size()));
    if (fresh) {
      entries.emplace_back("archive/data/" + at->second,
                           std::string(static_cast<const char*>(storage.data()), storage.nbytes()));
    }
    items += text(name) + "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") +
             "ctorch\nFloatStorage\n" + text(at->second) + text("cpu") +
             integer(static_cast<int64_t>(storage.nbytes() / sizeof(float))) + "tQ" +
             integer(tensor.storage_offset()) + tuple(tensor.sizes()) + tuple(tensor.strides()) + "\x89" +
             "ccollections\nOrderedDict\n)RtR";
  }
  entries[0].second = "\x80\x02}(" + items + "u.";
  return zip(entries);
}

}  // namespace graft::test
