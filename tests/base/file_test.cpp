#include "graft/base/file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <sstream>

#include "graft/base/error.h"
#include "graft/base/log.h"
#include "graft/base/mapped_pages.h"
#include "tests/temporary.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using test::contains;
using test::message_of;
using test::TemporaryFolder;

/// Files may not grow past `bytes` while this lives: as `ulimit -f` sets it.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(ReadFile, GivesTheBytes) {
  const TemporaryFolder folder;
  const std::string bytes("a\0b\r\n", 5);
  EXPECT_EQ(read_file(folder.file("f", bytes)), bytes);
  EXPECT_EQ(read_file(folder.file("empty", "")), "");
  // Its size is said to be 0.
  EXPECT_FALSE(read_file("/proc/self/status").empty());
}

TEST(ReadFile, SaysWhyNot) {
  const TemporaryFolder folder;
  EXPECT_EQ(message_of<DataError>([&] { read_file(folder / "none"); }),
            "[" + (folder / "none").string() + "] cannot be read: No such file or directory");
  EXPECT_TRUE(
      contains(message_of<DataError>([&] { read_file(folder.path()); }), "is a folder, expected a file"));
}

TEST(AtomicFile, AppearsWholeOnCommit) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "f");
    file.write("new");
    EXPECT_FALSE(fs::exists(folder / "f"));
    file.commit();
    EXPECT_EQ(read_file(folder / "f"), "new");
  }
  EXPECT_EQ(folder.count(), 1u);
  struct stat about {};
  ASSERT_EQ(::stat((folder / "f").c_str(), &about), 0);
  const mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_EQ(about.st_mode & 0777u, 0666u & ~mask);
}

TEST(AtomicFile, LeavesTheOldOneUntilThen) {
  const TemporaryFolder folder;
  folder.file("f", "old");
  {
    AtomicFile file(folder / "f");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(folder.count(), 1u);
  write_file(folder / "f", "new");
  EXPECT_EQ(read_file(folder / "f"), "new");
}

TEST(AtomicFile, WritesThroughALink) {
  const TemporaryFolder folder;
  folder.file("target", "old");
  fs::create_symlink(folder / "target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "target"), "new");
}

TEST(AtomicFile, DoesNotReplaceADevice) {
  write_file("/dev/null", "gone");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  EXPECT_TRUE(contains(message_of<DataError>([] { write_file("/dev/full", "x"); }),
                       "/dev/full] cannot be written: No space left"));
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST(AtomicFile, SaysWhyNotAndLeavesNothing) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<DataError>([&] { write_file(folder / "no" / "f", "x"); }),
                       "No such file or directory"));
  EXPECT_TRUE(contains(message_of<DataError>([&] { write_file(folder.path(), "x"); }), "is a folder"));
  const FileSizeLimit limit(1000);
  EXPECT_TRUE(contains(message_of<DataError>([&] { write_file(folder / "f", std::string(5000, 'x')); }),
                       "f] cannot be written: file too large"));
  EXPECT_EQ(folder.count(), 0u);
}

TEST(MappedFile, ShowsTheBytes) {
  const TemporaryFolder folder;
  const auto mapped = MappedFile::open(folder.file("f", "abc"));
  ASSERT_EQ(mapped->bytes().size(), 3u);
  EXPECT_EQ(static_cast<char>(mapped->bytes()[2]), 'c');
  EXPECT_TRUE(MappedFile::open(folder.file("empty", ""))->bytes().empty());
}

int64_t resident_file_bytes() {
  std::istringstream status(read_file("/proc/self/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stoll(line.substr(8)) * 1024;
  }
  return -1;
}

TEST(MappedFile, GivesPagesBackAndReadsThemAgain) {
  const TemporaryFolder folder;
  constexpr size_t kBytes = size_t{8} << 20;
  const auto mapped = MappedFile::open(folder.file("f", std::string(kBytes, 'x')));
  const auto all_are_x = [&] {
    return std::all_of(mapped->bytes().begin(), mapped->bytes().end(),
                       [](std::byte b) { return b == std::byte{'x'}; });
  };
  EXPECT_TRUE(all_are_x());
  const int64_t before = resident_file_bytes();
  drop_mapped_pages(mapped->bytes().data() + 5, kBytes - 10);
  EXPECT_LT(resident_file_bytes(), before - static_cast<int64_t>(kBytes / 2));
  EXPECT_TRUE(all_are_x());
}

TEST(MappedFile, OtherMemoryIsNotDropped) {
  const std::string text(size_t{8} << 20, 'y');
  drop_mapped_pages(text.data(), text.size());
  EXPECT_EQ(text.find_first_not_of('y'), std::string::npos);
  const TemporaryFolder folder;
  const auto mapped = MappedFile::open(folder.file("f", "abc"));
  drop_mapped_pages(mapped->bytes().data(), size_t{1} << 20);  // beyond its end lies something else
  EXPECT_EQ(mapped->bytes()[0], std::byte{'a'});
}

TEST(MappedFile, SaysWhyNot) {
  const TemporaryFolder folder;
  EXPECT_TRUE(contains(message_of<DataError>([&] { MappedFile::open(folder / "none"); }), "No such file"));
  EXPECT_TRUE(contains(message_of<DataError>([&] { MappedFile::open(folder.path()); }), "is a folder"));
  EXPECT_TRUE(contains(message_of<DataError>([&] { MappedFile::open("/dev/null"); }), "is no regular file"));
}

TEST(AtomicFolder, AppearsWholeOnCommit) {
  const TemporaryFolder folder;
  {
    AtomicFolder whole(folder / "run");
    write_file(whole.path() / "f", "new");
    EXPECT_FALSE(fs::exists(folder / "run"));
    whole.commit();
  }
  EXPECT_EQ(read_file(folder / "run" / "f"), "new");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(AtomicFolder, TakesThePlaceOfAnEarlierOne) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "run");
  write_file(folder / "run" / "old", "old");
  {
    AtomicFolder dropped(folder / "run");
    write_file(dropped.path() / "f", "new");
  }
  EXPECT_TRUE(fs::exists(folder / "run" / "old"));
  EXPECT_EQ(folder.count(), 1u);
  AtomicFolder whole(folder / "run/");
  write_file(whole.path() / "f", "new");
  whole.commit();
  EXPECT_FALSE(fs::exists(folder / "run" / "old"));
  EXPECT_EQ(read_file(folder / "run" / "f"), "new");
  EXPECT_EQ(folder.count(), 1u);
}

TEST(AtomicFolder, SaysWhyNot) {
  const TemporaryFolder folder;
  folder.file("f", "x");
  EXPECT_TRUE(contains(message_of<DataError>([&] { AtomicFolder whole(folder / "f"); }), "is a file"));
  EXPECT_TRUE(contains(message_of<DataError>([&] { AtomicFolder whole(folder / "no" / "run"); }),
                       "cannot be made: No such"));
}

TEST(Log, QuietTakesInformationButNotWarnings) {
  testing::internal::CaptureStderr();
  info("one {}", 1);
  set_quiet(true);
  info("two");
  warn("three");
  set_quiet(false);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "one 1\nwarning: three\n");
}

}  // namespace
}  // namespace graft
