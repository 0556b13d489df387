#include "graft/tasks/packing.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graft/base/error.h"

namespace graft {
namespace {

constexpr int64_t kDefaultLength = 512;

/// Runs of tokens between the template's special ones: begin, end.
std::vector<std::pair<size_t, size_t>> text_runs(const Encoding& encoding) {
  std::vector<std::pair<size_t, size_t>> runs;
  for (size_t i = 0; i < encoding.ids.size();) {
    size_t end = i;
    // Two texts without a special token between them still differ in their type id.
    while (end < encoding.ids.size() && !encoding.special[end] &&
           encoding.type_ids[end] == encoding.type_ids[i])
      ++end;
    if (end > i) runs.emplace_back(i, end);
    i = std::max(end, i + 1);
  }
  return runs;
}

/// How many tokens two texts keep of `total`.
std::pair<int64_t, int64_t> share_out(int64_t first, int64_t second, int64_t total) {
  const bool swapped = first > second;
  int64_t shorter = std::min(first, second);
  int64_t longer = shorter > total ? shorter : std::max(shorter, total - shorter);
  if (shorter + longer > total) {
    shorter = total / 2;
    longer = shorter + total % 2;
  }
  return swapped ? std::pair{longer, shorter} : std::pair{shorter, longer};
}

}  // namespace

TaskBatch pack(const std::vector<Features>& features, const std::vector<int64_t>& indices) {
  std::vector<int64_t> ids, types, lengths;
  bool typed = false;
  for (const int64_t index : indices) {
    const Features& one = features[static_cast<size_t>(index)];
    ids.insert(ids.end(), one.input_ids.begin(), one.input_ids.end());
    typed = typed || !one.token_type_ids.empty();
    lengths.push_back(static_cast<int64_t>(one.input_ids.size()));
  }
  TaskBatch out;
  out.batch.input_ids = at::tensor(ids, at::kLong);
  if (typed) {
    types.reserve(ids.size());
    for (const int64_t index : indices) {
      const Features& one = features[static_cast<size_t>(index)];
      if (one.token_type_ids.empty()) types.resize(types.size() + one.input_ids.size(), 0);
      types.insert(types.end(), one.token_type_ids.begin(), one.token_type_ids.end());
    }
    out.batch.token_type_ids = at::tensor(types, at::kLong);
  }
  out.batch.layout = Layout::of(lengths);
  out.tokens = out.batch.layout.rows();
  return out;
}

void truncate(Encoding& encoding, int64_t max_length, const std::string& where) {
  const auto length = static_cast<int64_t>(encoding.ids.size());
  if (length <= max_length) return;
  const auto runs = text_runs(encoding);
  int64_t text = 0;
  for (const auto& [begin, end] : runs) text += static_cast<int64_t>(end - begin);
  const int64_t room = max_length - (length - text);
  if (room < 1 || runs.empty()) {
    throw DataError(where, "{} special tokens, expected fewer than the longest sequence of {}", length - text,
                    max_length);
  }
  std::vector<int64_t> kept{room};
  if (runs.size() > 1) {
    const auto size = [&](size_t i) { return static_cast<int64_t>(runs[i].second - runs[i].first); };
    const auto [first, second] = share_out(size(0), size(1), room);
    kept = {first, second};
  }
  Encoding out;
  size_t run = 0;
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    while (run < runs.size() && i >= runs[run].second) ++run;
    const bool inside = run < runs.size() && i >= runs[run].first;
    if (inside && (run >= kept.size() || static_cast<int64_t>(i - runs[run].first) >= kept[run])) continue;
    out.ids.push_back(encoding.ids[i]);
    out.type_ids.push_back(encoding.type_ids[i]);
    out.special.push_back(encoding.special[i]);
    if (!encoding.offsets.empty()) out.offsets.push_back(encoding.offsets[i]);
  }
  encoding = std::move(out);
}

std::string text_of(const Example& example, const std::string& column) {
  const auto found = example.fields.find(column);
  if (found == example.fields.end()) {
    std::vector<std::string> names;
    for (const auto& [name, value] : example.fields.items()) names.push_back(name);
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    throw DataError(example.where, "no column {}, the file has {}; name it with data.columns{}", column, list,
                    did_you_mean(column, names));
  }
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number() || found->is_boolean()) return found->dump();
  throw DataError(example.where, "{}: {}, expected text or a number", column, found->dump().substr(0, 80));
}

int64_t length_limit(int64_t wish, int64_t max_positions) {
  const int64_t limit = wish > 0 ? wish : kDefaultLength;
  return max_positions > 0 ? std::min(limit, max_positions) : limit;
}

}  // namespace graft
