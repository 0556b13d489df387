#include "graft/base/mapped_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>

namespace graft {
namespace {

/// Ends by begins.
struct Mappings {
  std::mutex mutex;
  std::map<uintptr_t, uintptr_t> ends;
};

Mappings& mappings() {
  static Mappings all;
  return all;
}

uintptr_t place(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

}  // namespace

void note_mapping(const void* begin, size_t bytes) {
  const std::scoped_lock lock(mappings().mutex);
  mappings().ends[place(begin)] = place(begin) + bytes;
}

void forget_mapping(const void* begin) {
  const std::scoped_lock lock(mappings().mutex);
  mappings().ends.erase(place(begin));
}

void drop_mapped_pages(const void* begin, size_t bytes) {
  // The lock keeps the mapping there: what else came to lie in its place would be lost.
  const std::scoped_lock lock(mappings().mutex);
  const uintptr_t first = place(begin), last = first + bytes;
  const auto after = mappings().ends.upper_bound(first);
  if (after == mappings().ends.begin() || std::prev(after)->second < last) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t whole_first = (first + page - 1) / page * page, whole_last = last / page * page;
  if (whole_first < whole_last)
    ::madvise(reinterpret_cast<void*>(whole_first), whole_last - whole_first, MADV_DONTNEED);
}

}  // namespace graft
