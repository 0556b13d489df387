#include "graft/tasks/entity_scores.h"

#include <algorithm>
#include <iterator>

namespace graft {
namespace {

struct Tag {
  char place = 'O';  // B, I, E, S, O
  std::string type;
};

Tag tag_of(const std::string& text) {
  if (text == "O" || text.empty()) return {};
  const bool placed =
      text.size() > 1 && text[1] == '-' && std::string("BIESO").find(text[0]) != std::string::npos;
  return placed ? Tag{text[0], text.substr(2)} : Tag{'I', text};
}

bool ends_before(const Tag& last, const Tag& next) {
  if (last.place == 'O') return false;
  if (last.place == 'E' || last.place == 'S' || last.type != next.type) return true;
  return next.place == 'B' || next.place == 'S' || next.place == 'O';
}

double share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::vector<Entity> entities_of(const std::vector<std::string>& tags) {
  std::vector<Entity> out;
  Tag last;
  const auto count = static_cast<int64_t>(tags.size());
  int64_t begin = 0;
  for (int64_t i = 0; i <= count; ++i) {
    const Tag next = i < count ? tag_of(tags[static_cast<size_t>(i)]) : Tag{};
    const bool ends = ends_before(last, next);
    if (ends) out.push_back({begin, i - 1, last.type});
    if (next.place != 'O' && (ends || last.place == 'O')) begin = i;
    last = next;
  }
  return out;
}

void EntityCounts::add(const std::vector<std::string>& tags, const std::vector<std::string>& predicted) {
  std::vector<Entity> a = entities_of(tags), b = entities_of(predicted), both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  right += static_cast<int64_t>(both.size());
  found += static_cast<int64_t>(b.size());
  wanted += static_cast<int64_t>(a.size());
}

double EntityCounts::precision() const { return share(right, found); }
double EntityCounts::recall() const { return share(right, wanted); }
double EntityCounts::f1() const { return share(2 * right, found + wanted); }

}  // namespace graft
