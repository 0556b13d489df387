#include "graft/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "graft/base/error.h"
#include "graft/base/mapped_pages.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view what, int error) {
  const char* reason = error == EFBIG ? "file too large for the limit set (ulimit -f)" : std::strerror(error);
  throw DataError(path.string(), "{}: {}", what, reason);
}

/// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int file) : file_(file) {}
  ~Descriptor() { ::close(file_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return file_; }

 private:
  int file_;
};

int open_to_read(const fs::path& path, struct stat& about) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(path, "cannot be read", errno);
  if (::fstat(file, &about) != 0) {
    const int error = errno;
    ::close(file);
    fail(path, "cannot be read", error);
  }
  if (S_ISDIR(about.st_mode)) {
    ::close(file);
    throw DataError(path.string(), "is a folder, expected a file");
  }
  return file;
}

/// A name beside `path` that nobody else uses.
fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> count{0};
  return path.parent_path() / fmt::format(".{}.{}-{}.tmp", path.filename().string(), ::getpid(), count++);
}

/// A new name lasts through a power failure only once its folder is on the disk too.
void sync_folder(const fs::path& folder) {
  const int file = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}

/// write_some(data, bytes, how many were written before) until all are. Errors: DataError.
template <class WriteSome>
void write_all(const void* data, size_t bytes, const fs::path& path, const WriteSome& write_some) {
  const char* const from = static_cast<const char*>(data);
  for (size_t done = 0; done < bytes;) {
    const ssize_t some = write_some(from + done, bytes - done, done);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) fail(path, "cannot be written", errno);
    done += static_cast<size_t>(some);
  }
}

}  // namespace

std::string read_file(const fs::path& path) {
  struct stat about {};
  const Descriptor file(open_to_read(path, about));
  std::string bytes;
  size_t used = 0;
  // One byte more than promised: the read that finds the end needs room.
  bytes.resize(static_cast<size_t>(about.st_size > 0 ? about.st_size : 0) + 1);
  while (true) {
    if (used == bytes.size()) bytes.resize(bytes.size() + bytes.size() / 2 + 4096);
    const ssize_t got = ::read(file.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "cannot be read", errno);
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  bytes.resize(used);
  return bytes;
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  std::error_code ignored;
  // Through a link the file it names is replaced, not the link.
  if (fs::is_symlink(path_, ignored) && fs::exists(path_, ignored)) path_ = fs::canonical(path_, ignored);
  const fs::file_status status = fs::status(path_, ignored);
  if (fs::is_directory(status)) throw DataError(path.string(), "is a folder, expected a file to write");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    // A device or a pipe is written as it is; renaming over it would destroy it.
    file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    temporary_ = temporary_beside(path_);
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (file_ < 0) {
    const int error = errno;
    temporary_.clear();
    fail(path_, "cannot be written", error);
  }
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

void AtomicFile::write(const void* data, size_t bytes) {
  write_all(data, bytes, path_,
            [this](const char* from, size_t left, size_t) { return ::write(file_, from, left); });
}

void AtomicFile::write_at(size_t offset, const void* data, size_t bytes) {
  write_all(data, bytes, path_, [this, offset](const char* from, size_t left, size_t done) {
    return ::pwrite(file_, from, left, static_cast<off_t>(offset + done));
  });
}

void AtomicFile::send_on() {
  // A hint: what comes of it is seen at the sync.
  if (has_places()) ::sync_file_range(file_, 0, 0, SYNC_FILE_RANGE_WRITE);
}

void AtomicFile::commit() {
  // Devices and pipes have nothing to sync.
  if (!temporary_.empty() && ::fsync(file_) != 0) fail(path_, "cannot be written", errno);
  if (::close(std::exchange(file_, -1)) != 0) fail(path_, "cannot be written", errno);
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be written", errno);
  temporary_.clear();
  sync_folder(path_.parent_path());
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  struct stat about {};
  const Descriptor file(open_to_read(path, about));
  if (!S_ISREG(about.st_mode))
    throw DataError(path.string(), "is no regular file, expected one that can be mapped");
  const std::shared_ptr<MappedFile> mapped(new MappedFile);
  mapped->size_ = static_cast<size_t>(about.st_size);
  if (mapped->size_ == 0) return mapped;
  void* address = ::mmap(nullptr, mapped->size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) {
    mapped->size_ = 0;
    fail(path, "cannot be mapped", errno);
  }
  mapped->data_ = static_cast<const std::byte*>(address);
  note_mapping(mapped->data_, mapped->size_);
  return mapped;
}

MappedFile::~MappedFile() {
  if (!data_) return;
  forget_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

AtomicFolder::AtomicFolder(const fs::path& target) : target_(target) {
  // "runs/a/" names the folder "runs/a".
  if (target_.filename().empty() && target_.has_parent_path()) target_ = target_.parent_path();
  if (fs::exists(target_) && !fs::is_directory(target_)) {
    throw DataError(target.string(), "is a file, expected a folder or a free name");
  }
  temporary_ = temporary_beside(target_);
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    temporary_.clear();
    fail(target_, "cannot be made", errno);
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  if (::rename(temporary_.c_str(), target_.c_str()) == 0) {
    temporary_.clear();
  } else if (errno == ENOTEMPTY || errno == EEXIST) {
    // Exchanged in one step where the file system can: at no moment is there no folder of that name.
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) != 0) {
      const fs::path old = temporary_beside(target_);
      if (::rename(target_.c_str(), old.c_str()) != 0) fail(target_, "cannot be replaced", errno);
      if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, "cannot be made", errno);
      temporary_ = old;
    }
  } else {
    fail(target_, "cannot be made", errno);
  }
  sync_folder(target_.parent_path());
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  temporary_.clear();
}

}  // namespace graft
