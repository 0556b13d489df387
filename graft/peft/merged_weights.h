// What base tensors become when adapters are merged into them, made one at a time.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "graft/ops/low_rank_merge.h"
#include "graft/peft/adapter.h"

namespace graft {

/// An adapter, and how much of it: 1 is what being attached means.
struct WeightedAdapter {
  const Adapter* adapter = nullptr;
  double weight = 1;
};

/// The adapters' merged form over a model that they are not attached to, one after the other. A value is
/// computed from the base each time it is asked for, so that never more than one module's are held.
class MergedWeights {
 public:
  /// `type` is that of the values; undefined: float32 (float64 stays). Errors: UsageError where a method has
  /// no merged form.
  MergedWeights(std::vector<WeightedAdapter> adapters, Model& model,
                at::ScalarType type = at::ScalarType::Undefined);

  /// Paths of the base tensors that change, tied ones by each path that does.
  const std::set<std::string>& paths() const { return paths_; }
  /// Of the parameter's shape; the base itself where nothing changes. Errors: DataError for values that are
  /// not finite, UsageError where this module has no merged form.
  Tensor value(const std::string& path);
  /// Rows [first, first + count) of a linear's weight, for several threads, where all adapters add low-rank
  /// updates to it; nothing elsewhere. It holds the base itself. Errors of a call: as value.
  using Rows = std::function<Tensor(int64_t first, int64_t count)>;
  std::optional<Rows> rows(const std::string& path);
  /// By how much the merged form of the linears made so far leaves the attached one: the largest difference
  /// of an output, drawn inputs from N(0, 1).
  double largest_difference() const { return largest_difference_; }
  /// Parts tied tensors of the model whose ends become different ones (config too).
  void untie_parted();

 private:
  Tensor typed(const Tensor& value) const;
  void make(const std::string& module);
  void apply(size_t index, const std::string& module);
  /// Puts the hook's merged form into `values`; → by how much it leaves the attached one.
  double apply_linear(Linear& linear, const std::string& module, LinearHook& hook, const Tensor& probe,
                      TensorMap& values) const;
  /// All adapters' updates of a linear's weight as one; nothing where one does something else there.
  std::optional<ops::LowRankChange> low_rank_at(const std::string& module) const;
  Tensor merged_rows(const std::string& module, const Tensor& base, const ops::LowRankChange& change);
  const Tensor& probe(int64_t width);
  bool parted(const std::vector<std::string>& ends);

  std::vector<WeightedAdapter> adapters_;
  std::vector<TensorMap> stand_ins_;  // of each adapter, computed ones as they are now
  Model& model_;
  std::map<std::string, std::shared_ptr<Parameter>> parameters_;  // by every path
  std::set<std::string> paths_;
  at::ScalarType type_;
  std::map<int64_t, Tensor> probes_;  // drawn inputs, by width
  std::string module_;                // whose values are held
  TensorMap held_;                    // by path
  double largest_difference_ = 0;
  std::mutex noting_;  // the largest difference
};

/// Into the base tensors, for good; a tied head whose embedding alone changed is untied (config too).
void merge(const std::vector<WeightedAdapter>& adapters, Model& model);

}  // namespace graft
