#include "graft/generate/text_output.h"

#include <algorithm>

namespace graft {
namespace {

/// The length of the longest end of `text` that is a proper beginning of `stop`.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

TextOutput::TextOutput(std::vector<std::string> stop) : stop_(std::move(stop)) { std::erase(stop_, ""); }

std::string TextOutput::add(std::string_view piece) {
  if (stopped_) return "";
  pending_ += piece;
  size_t first = std::string::npos, held = 0;
  for (const std::string& stop : stop_) {
    first = std::min(first, pending_.find(stop));
    held = std::max(held, overlap(pending_, stop));
  }
  if (first == std::string::npos) return release(pending_.size() - held);
  stopped_ = true;
  std::string out = release(first);
  pending_.clear();
  return out;
}

std::string TextOutput::finish() { return release(pending_.size()); }

std::string TextOutput::release(size_t count) {
  std::string out = pending_.substr(0, count);
  pending_.erase(0, count);
  text_ += out;
  return out;
}

}  // namespace graft
