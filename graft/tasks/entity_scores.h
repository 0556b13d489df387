// How well labelled spans were met, as CoNLL's evaluation counts them.
#pragma once
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace graft {

/// A span of one sentence: first and last tag, and its type.
struct Entity {
  int64_t begin, end;
  std::string type;
  auto operator<=>(const Entity&) const = default;
};
/// The spans that tags like B-PER, I-PER, E-PER, S-PER and O spell; a tag without a dash is O, or a type of
/// its own that goes on while it repeats. A span also begins where an I has another type than what is before
/// it.
std::vector<Entity> entities_of(const std::vector<std::string>& tags);

struct EntityCounts {
  int64_t right = 0, found = 0, wanted = 0;
  void add(const std::vector<std::string>& tags, const std::vector<std::string>& predicted);
  /// 0 where nothing is found or wanted.
  double precision() const, recall() const, f1() const;
};

}  // namespace graft
