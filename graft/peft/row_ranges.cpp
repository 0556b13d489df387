#include "graft/peft/row_ranges.h"

#include <ATen/ATen.h>

#include "graft/base/error.h"

namespace graft {
namespace {

/// `part(i, first, count)` for each adapter's rows, one under the other.
template <class Part>
Tensor by_rows(int64_t rows, const std::vector<int64_t>& ends, size_t adapters, Part part) {
  if (ends.size() != adapters || ends.back() != rows) {
    throw UsageError(
        "rows", "{} ranges up to {} for {} adapters on {} rows, expected one range an adapter and all rows",
        ends.size(), ends.empty() ? 0 : ends.back(), adapters, rows);
  }
  std::vector<Tensor> parts;
  int64_t first = 0;
  for (size_t i = 0; i < adapters; ++i) {
    if (ends[i] < first) throw UsageError("rows", "a range ends at {}, expected at least {}", ends[i], first);
    if (ends[i] > first) parts.push_back(part(i, first, ends[i] - first));
    first = ends[i];
  }
  return at::cat(parts, 0);
}

class RowsLinear : public LinearHook {
 public:
  RowsLinear(std::vector<std::shared_ptr<LinearHook>> hooks, RowEnds ends)
      : hooks_(std::move(hooks)), ends_(std::move(ends)) {}
  Tensor forward(const Linear& base, const Tensor& x, RandomStream* dropout) override {
    return by_rows(x.size(0), *ends_, hooks_.size(), [&](size_t i, int64_t first, int64_t count) {
      const Tensor rows = x.narrow(0, first, count);
      return hooks_[i] ? hooks_[i]->forward(base, rows, dropout) : base.apply(rows);
    });
  }

 private:
  std::vector<std::shared_ptr<LinearHook>> hooks_;  // null: the base alone
  RowEnds ends_;
};

class RowsEmbedding : public EmbeddingHook {
 public:
  RowsEmbedding(std::vector<std::shared_ptr<EmbeddingHook>> hooks, RowEnds ends)
      : hooks_(std::move(hooks)), ends_(std::move(ends)) {}
  Tensor forward(const Embedding& base, const Tensor& ids) override {
    return by_rows(ids.size(0), *ends_, hooks_.size(), [&](size_t i, int64_t first, int64_t count) {
      const Tensor rows = ids.narrow(0, first, count);
      return hooks_[i] ? hooks_[i]->forward(base, rows) : base.apply(rows);
    });
  }

 private:
  std::vector<std::shared_ptr<EmbeddingHook>> hooks_;
  RowEnds ends_;
};

template <class Rows, class Hook, class Of>
void combine(const std::vector<const Adapter*>& adapters, const RowEnds& ends, Of of,
             std::map<std::string, std::shared_ptr<Hook>>& out) {
  for (const Adapter* one : adapters) {
    if (one == nullptr) continue;
    for (const auto& [path, hook] : of(*one)) {
      if (out.count(path)) continue;
      std::vector<std::shared_ptr<Hook>> hooks;
      for (const Adapter* other : adapters) {
        const bool acts = other != nullptr && of(*other).count(path) != 0;
        hooks.push_back(acts ? of(*other).at(path) : nullptr);
      }
      out[path] = std::make_shared<Rows>(std::move(hooks), ends);
    }
  }
}

}  // namespace

Adapter side_by_side(const std::vector<const Adapter*>& adapters, RowEnds ends) {
  Adapter out;
  for (const Adapter* one : adapters) {
    if (one == nullptr) continue;
    if (one->input || !one->sublayers.empty() || !one->stand_ins.empty()) {
      throw UsageError("rows",
                       "{} acts on more than linear maps and embeddings, expected a method that does not",
                       one->method ? one->method->name : "an adapter");
    }
  }
  combine<RowsLinear>(
      adapters, ends, [](const Adapter& one) -> const auto& { return one.linears; }, out.linears);
  combine<RowsEmbedding>(
      adapters, ends, [](const Adapter& one) -> const auto& { return one.embeddings; }, out.embeddings);
  return out;
}

}  // namespace graft
