#include "graft/tasks/span_noise.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graft/base/error.h"

namespace graft {
namespace {

constexpr int64_t kMostSentinels = 100;

/// `items` cut into `parts` runs of at least one, every composition equally likely.
std::vector<int64_t> composition(int64_t items, int64_t parts, RandomStream& random) {
  std::vector<int64_t> places(static_cast<size_t>(items - 1));
  std::iota(places.begin(), places.end(), 1);
  // The first parts - 1 of a random order are where a run begins.
  for (size_t i = 0; i + 1 < static_cast<size_t>(parts); ++i) {
    std::swap(places[i], places[i + random.below(places.size() - i)]);
  }
  places.resize(static_cast<size_t>(parts - 1));
  std::sort(places.begin(), places.end());
  places.push_back(items);
  std::vector<int64_t> lengths;
  int64_t begin = 0;
  for (const int64_t end : places) {
    lengths.push_back(end - begin);
    begin = end;
  }
  return lengths;
}

int64_t rounded(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

}  // namespace

SpanNoise::Counts SpanNoise::counts(int64_t length) const {
  if (length < 2) throw InternalError("spans", "{} tokens, expected at least 2", length);
  const int64_t hidden = std::clamp<int64_t>(rounded(static_cast<double>(length) * density), 1, length - 1);
  const int64_t kept = length - hidden;
  const int64_t spans = rounded(static_cast<double>(std::min(hidden, kept)) / mean_length);
  return {hidden, std::max<int64_t>(spans, 1)};
}

int64_t SpanNoise::text_length(int64_t limit) const {
  const auto source = [this](int64_t length) {
    const Counts c = counts(length);
    return length - c.hidden + c.spans + 1;
  };
  int64_t length = 1;
  while (source(length + 1) <= limit) ++length;
  return length < 2 ? 0 : length;
}

std::vector<bool> noise_mask(int64_t length, const SpanNoise& noise, RandomStream& random) {
  const SpanNoise::Counts counts = noise.counts(length);
  const std::vector<int64_t> hidden = composition(counts.hidden, counts.spans, random);
  const std::vector<int64_t> kept = composition(length - counts.hidden, counts.spans, random);
  std::vector<bool> mask;
  mask.reserve(static_cast<size_t>(length));
  for (size_t i = 0; i < hidden.size(); ++i) {
    mask.insert(mask.end(), static_cast<size_t>(kept[i]), false);
    mask.insert(mask.end(), static_cast<size_t>(hidden[i]), true);
  }
  return mask;
}

SourceTarget corrupted(const std::vector<int64_t>& ids, const std::vector<bool>& hidden,
                       const std::vector<int64_t>& sentinels, int64_t end) {
  SourceTarget out;
  size_t spans = 0;
  const auto sentinel = [&](size_t i) {
    if (i >= sentinels.size()) throw InternalError("spans", "{} sentinels, expected more", sentinels.size());
    return sentinels[i];
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!hidden[i]) {
      out.source.push_back(ids[i]);
      continue;
    }
    if (i == 0 || !hidden[i - 1]) {
      out.source.push_back(sentinel(spans));
      out.target.push_back(sentinel(spans));
      ++spans;
    }
    out.target.push_back(ids[i]);
  }
  if (!ids.empty() && !hidden.back()) out.target.push_back(sentinel(spans));
  out.source.push_back(end);
  out.target.push_back(end);
  return out;
}

std::vector<int64_t> sentinel_ids(const Tokenizer& tokenizer) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < kMostSentinels; ++i) {
    const auto id = tokenizer.token_id(fmt::format("<extra_id_{}>", i));
    if (!id) break;
    ids.push_back(*id);
  }
  return ids;
}

}  // namespace graft
