#include "graft/io/zip_archive.h"

#include <cstdint>

#include "graft/base/error.h"

namespace graft {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50, kEntry = 0x02014b50,
                   kLocal = 0x04034b50;
constexpr size_t kEndSize = 22, kEntrySize = 46, kLocalSize = 30, kLocatorSize = 20, kLongestComment = 65535;
constexpr uint32_t kIn64 = 0xffffffff;
constexpr uint64_t kMostEntries = 1 << 20;

/// Little-endian numbers at places that are checked.
class Reader {
 public:
  Reader(Bytes bytes, const std::string& where) : bytes_(bytes), where_(where) {}
  size_t size() const { return bytes_.size(); }
  uint64_t number(size_t at, size_t width) const {
    const Bytes part = slice(at, width);
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(part[i]);
    return value;
  }
  Bytes slice(uint64_t at, uint64_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at)
      throw DataError(where_, "{} bytes at {} of {}, expected a whole zip archive", size, at, bytes_.size());
    return bytes_.subspan(at, size);
  }
  std::string text(uint64_t at, uint64_t size) const {
    const Bytes part = slice(at, size);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  const std::string& where() const { return where_; }

 private:
  Bytes bytes_;
  const std::string& where_;
};

size_t end_of(const Reader& file) {
  for (size_t back = kEndSize; back <= kEndSize + kLongestComment && back <= file.size(); ++back) {
    if (file.number(file.size() - back, 4) == kEnd) return file.size() - back;
  }
  throw DataError(file.where(), "no zip archive, expected a file of torch.save (PyTorch 1.6 or newer)");
}

struct Directory {
  uint64_t entries, offset;
};

Directory directory_of(const Reader& file) {
  const size_t end = end_of(file);
  Directory out{file.number(end + 10, 2), file.number(end + 16, 4)};
  const bool has64 = end >= kLocatorSize && file.number(end - kLocatorSize, 4) == kLocator64;
  if (!has64) return out;
  const uint64_t at = file.number(end - kLocatorSize + 8, 8);
  file.slice(at, 56);
  if (file.number(at, 4) != kEnd64)
    throw DataError(file.where(), "its zip64 directory is not where it should be");
  return {file.number(at + 32, 8), file.number(at + 48, 8)};
}

struct Entry {
  uint64_t packed, size, local;
};

/// Numbers that do not fit into 32 bits stand in an extra field, in this order.
void widen(const Reader& file, size_t at, size_t length, Entry& entry) {
  for (size_t i = 0; i + 4 <= length;) {
    const uint64_t id = file.number(at + i, 2), size = file.number(at + i + 2, 2);
    size_t field = at + i + 4;
    if (id == 1) {
      for (uint64_t* value : {&entry.size, &entry.packed, &entry.local}) {
        if (*value != kIn64) continue;
        *value = file.number(field, 8);
        field += 8;
      }
    }
    i += 4 + size;
  }
}

}  // namespace

std::map<std::string, Bytes> stored_entries(Bytes archive, const std::string& where) {
  const Reader file(archive, where);
  const Directory directory = directory_of(file);
  if (directory.entries > kMostEntries)
    throw DataError(where, "{} entries, expected at most {}", directory.entries, kMostEntries);
  std::map<std::string, Bytes> entries;
  uint64_t at = directory.offset;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    file.slice(at, kEntrySize);
    if (file.number(at, 4) != kEntry) throw DataError(where, "entry {} of the zip directory is none", i);
    const uint64_t method = file.number(at + 10, 2), name = file.number(at + 28, 2),
                   extra = file.number(at + 30, 2), comment = file.number(at + 32, 2);
    Entry entry{file.number(at + 20, 4), file.number(at + 24, 4), file.number(at + 42, 4)};
    const std::string path = file.text(at + kEntrySize, name);
    file.slice(at + kEntrySize + name, extra);
    widen(file, at + kEntrySize + name, extra, entry);
    if (method != 0 || entry.packed != entry.size)
      throw DataError(where, "{} is compressed, expected it stored as it is", path);
    file.slice(entry.local, kLocalSize);
    if (file.number(entry.local, 4) != kLocal) throw DataError(where, "{} is not where it should be", path);
    const uint64_t data =
        entry.local + kLocalSize + file.number(entry.local + 26, 2) + file.number(entry.local + 28, 2);
    entries[path] = file.slice(data, entry.size);
    at += kEntrySize + name + extra + comment;
  }
  return entries;
}

}  // namespace graft
