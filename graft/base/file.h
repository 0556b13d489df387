// Files: whole reads, atomic writes, memory maps.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace graft {

/// The whole file. Errors: DataError (missing, not readable, a folder).
std::string read_file(const std::filesystem::path& path);

/// A writer that makes `path` appear whole or not at all: a temporary name beside it, fsync, rename. The
/// destructor of one that was not committed removes what was written. Errors: DataError with the system's
/// reason (disk full …).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::string_view bytes);
  void write(const void* data, size_t bytes);
  /// Not for devices and pipes; by several threads, each at places of its own.
  void write_at(size_t offset, const void* data, size_t bytes);
  /// False for devices and pipes, which are written from front to back.
  bool has_places() const { return !temporary_.empty(); }
  /// What was written goes on to the disk at once: the commit would wait for all of it.
  void send_on();
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int file_ = -1;
};

void write_file(const std::filesystem::path& path, std::string_view bytes);

/// A file mapped read-only; pages are read when touched. Errors: DataError.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A folder that appears whole or not at all: fill `path()`, then commit() renames it to `target` (which an
/// earlier folder of that name is moved out of the way for). Not committed: removed.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::filesystem::path& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
};

}  // namespace graft
