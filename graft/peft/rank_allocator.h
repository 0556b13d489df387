// AdaLoRA's budget: which singular triplets stay.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "graft/io/tensor_map.h"

namespace graft {

struct RankSchedule {
  int64_t init_r = 12, target_r = 8, tinit = 0, tfinal = 0, delta_t = 1, total_step = 0;
  double beta1 = 0.85, beta2 = 0.85;
};

/// The trained tensors of one map.
struct Triplets {
  std::string path;
  Tensor a, b, e;  // [r, in], [out, r], [r, 1]
};

class RankAllocator {
 public:
  RankAllocator(const RankSchedule& schedule, std::vector<Triplets> maps);
  /// Looks at parameters and gradients after optimizer step `step` (from 0), and masks what the budget leaves
  /// out.
  void after_step(int64_t step);
  /// By map, which triplets stay, [r] bool.
  const std::vector<Tensor>& kept() const { return kept_; }
  /// False before the first mask.
  bool masked() const;
  /// Everything that is remembered from step to step, by name; changed in place.
  TensorMap state() const;
  const std::vector<Triplets>& maps() const { return maps_; }

 private:
  struct Statistics {
    Tensor sensitivity, uncertainty;
  };
  int64_t budget(int64_t step) const;
  bool masks(int64_t step) const;
  void update(const Tensor& tensor, Statistics& statistics) const;
  void update_all();
  Tensor scores(size_t map) const;
  void mask_to(int64_t budget);
  void mask_again();

  RankSchedule schedule_;
  std::vector<Triplets> maps_;
  std::vector<std::array<Statistics, 3>> statistics_;
  std::vector<Tensor> kept_;
  Tensor masked_;  // [1] bool
};

}  // namespace graft
