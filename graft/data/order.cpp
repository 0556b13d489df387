#include "graft/data/order.h"

#include <algorithm>
#include <numeric>

#include "graft/base/error.h"
#include "graft/base/random.h"

namespace graft {
namespace {

using Indices = std::vector<int64_t>;

/// How many batches are sorted together: enough for like lengths, few enough that epochs differ.
constexpr int64_t kGroup = 50;

template <class T>
void shuffle(std::vector<T>& items, RandomStream& random) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

/// Sequences that are sorted together.
int64_t group_size(const Indices& lengths, const BatchOptions& options) {
  if (!options.shuffle) return static_cast<int64_t>(lengths.size());
  if (options.batch_tokens == 0) return kGroup * options.batch_size;
  const int64_t total = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  const int64_t mean = std::max<int64_t>(1, total / static_cast<int64_t>(lengths.size()));
  return kGroup * std::max<int64_t>(1, options.batch_tokens / mean);
}

void sort_groups(Indices& order, const Indices& lengths, int64_t size) {
  const int64_t count = static_cast<int64_t>(order.size());
  for (int64_t begin = 0; begin < count; begin += size) {
    std::stable_sort(order.begin() + begin, order.begin() + std::min(begin + size, count),
                     [&](int64_t a, int64_t b) {
                       return lengths[static_cast<size_t>(a)] < lengths[static_cast<size_t>(b)];
                     });
  }
}

std::vector<Indices> cut(const Indices& order, const Indices& lengths, const BatchOptions& options) {
  std::vector<Indices> batches;
  int64_t tokens = 0;
  const auto full = [&](int64_t length) {
    if (batches.empty()) return true;
    if (options.batch_tokens > 0) return tokens + length > options.batch_tokens;
    return static_cast<int64_t>(batches.back().size()) == options.batch_size;
  };
  for (const int64_t i : order) {
    const int64_t length = lengths[static_cast<size_t>(i)];
    if (full(length)) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(i);
    tokens += length;
  }
  const bool whole = options.batch_tokens > 0 ? tokens >= options.batch_tokens : full(0);
  if (options.drop_last && !batches.empty() && !whole) batches.pop_back();
  return batches;
}

}  // namespace

std::vector<Indices> epoch_batches(const Indices& lengths, const BatchOptions& options, uint64_t seed,
                                   int64_t epoch) {
  if (options.batch_tokens < 0) {
    throw UsageError("batch_tokens", "wrong value: {}, expected 0 or more", options.batch_tokens);
  }
  if (options.batch_tokens == 0 && options.batch_size < 1) {
    throw UsageError("batch_size", "wrong value: {}, expected at least 1", options.batch_size);
  }
  Indices order(lengths.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  if (order.empty()) return {};
  RandomStream random(seed, fmt::format("order of epoch {}", epoch));
  if (options.shuffle) shuffle(order, random);
  if (options.group_by_length) sort_groups(order, lengths, group_size(lengths, options));
  std::vector<Indices> batches = cut(order, lengths, options);
  if (options.shuffle && options.group_by_length) shuffle(batches, random);
  return batches;
}

}  // namespace graft
