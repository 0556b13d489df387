// Principal directions of rows that come in batches. Source: Ross et al. 2008, as PEFT's EVA uses it.
#pragma once
#include <string>

#include <cmath>
#include "graft/nn/layout.h"

namespace graft {

class IncrementalPca {
 public:
  /// `directions` are kept; `name` seeds the low-rank decomposition.
  IncrementalPca(int64_t directions, std::string name) : directions_(directions), name_(std::move(name)) {}

  /// rows [T, in] with T of at least the number of directions.
  void add(const Tensor& rows);
  /// False before the first batch.
  bool ready() const { return components_.defined(); }
  int64_t directions() const { return directions_; }
  /// [directions, in], unit rows, strongest first; the largest entry of each is positive.
  const Tensor& components() const { return components_; }
  const Tensor& singular_values() const { return singular_values_; }
  /// [directions]: the share of the rows' variance that each explains.
  const Tensor& explained() const { return explained_; }

 private:
  int64_t directions_;
  std::string name_;
  double count_ = 0;
  Tensor mean_, scatter_;  // [in] float64; scatter: sum of squared distances from the mean
  Tensor components_, singular_values_, explained_;
};

}  // namespace graft
