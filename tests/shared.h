// Where the shared reference material lies, for tests that need it: they are skipped with a message where it
// is missing.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace graft::test {

/// GRAFT_SHARED_DIR, else ../shared beside the source tree; empty where there is none.
inline std::filesystem::path shared_dir() {
  const char* given = std::getenv("GRAFT_SHARED_DIR");
  const std::filesystem::path path =
      given ? given : std::filesystem::path(GRAFT_SOURCE_DIR) / ".." / "shared";
  return std::filesystem::exists(path / "goldens") ? std::filesystem::canonical(path)
                                                   : std::filesystem::path();
}

/// The unpacked data bundle: GRAFT_SHARED, else ~/.cache/graft-shared (where the bundle's `unpack` puts it);
/// empty where there is none.
inline std::filesystem::path data_dir() {
  const char* given = std::getenv("GRAFT_SHARED");
  const char* home = std::getenv("HOME");
  const std::filesystem::path path =
      given ? std::filesystem::path(given) : std::filesystem::path(home ? home : "") / ".cache/graft-shared";
  return std::filesystem::exists(path / "data") ? path : std::filesystem::path();
}

}  // namespace graft::test

#define GRAFT_NEED(path) \
  if ((path).empty()) GTEST_SKIP() << "shared reference material is not on this machine"
