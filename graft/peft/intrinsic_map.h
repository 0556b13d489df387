// The random map of intrinsic dimension from few trained numbers to all tensors of a model, with its
// gradient.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "graft/io/tensor_map.h"
#include "graft/ops/fastfood.h"

namespace graft {

/// A base tensor that the map moves.
struct MappedTensor {
  std::string path;
  std::vector<int64_t> shape;
  int64_t numel = 0;
  bool narrow = false;  // multiplied in its base's type, and so computed in it
};

struct IntrinsicOptions {
  int64_t theta_size = 0;
  uint64_t seed = 0;
  bool per_tensor = false;  // every tensor has a map of its own, else all are one long vector
  bool dense = false;       // N(0, 1) entries in place of Fastfood
  bool reference =
      false;  // as the published code: θ cropped to small tensors, gradients divided by the map's size
};

/// W = W0 + λ P θ for each tensor. Columns of P have the norm 1 on average.
/// Source: Li et al. 2018 (arXiv 1804.08838), Aghajanyan et al. 2020 (arXiv 2012.13255).
class IntrinsicMap {
 public:
  /// Errors: UsageError (more values than one transform or a dense matrix takes).
  IntrinsicMap(std::vector<MappedTensor> tensors, const IntrinsicOptions& options);

  const std::vector<MappedTensor>& tensors() const { return tensors_; }
  int64_t dimension() const { return dimension_; }

  /// The moved tensors in order, differentiable in theta [theta_size] and lambda: undefined for all 1, else
  /// (with maps per tensor) one a tensor, and more are without effect. `bases` in order; results are float32
  /// (float64 where theta is), narrow ones of their base's type. What autograd holds must not outlive the
  /// map.
  std::vector<Tensor> apply(const std::vector<Tensor>& bases, const Tensor& theta,
                            const Tensor& lambda) const;

 private:
  friend class IntrinsicFunction;
  /// Consecutive tensors that one map fills.
  struct Block {
    size_t first = 0, count = 0;
    int64_t dimension = 0;  // values of its tensors
    int64_t used = 0;       // entries of θ that it sees
    ops::Fastfood fastfood;
    double scale = 0;     // makes the columns' norm 1
    double gradient = 1;  // what the gradient of θ is multiplied by
    Tensor dense;         // [dimension, used], undefined for Fastfood
  };
  void add_block(size_t first, size_t count, const std::string& name, const IntrinsicOptions& options);
  void make_dense(Block& block) const;
  /// P θ [2^bits or dimension] without λ; valid until the next call.
  Tensor forward(const Block& block, const Tensor& theta) const;
  /// Pᵀ g [used], without λ, of the type that `options` say; takes the gradients of the block's tensors away
  /// (undefined: zeros).
  Tensor backward(const Block& block, std::vector<Tensor>& gradients, const at::TensorOptions& options) const;
  /// Calls work(block's index): of small maps several at a time.
  void each_block(const std::function<void(size_t)>& work) const;
  Tensor workspace(int64_t size) const;

  std::vector<MappedTensor> tensors_;
  std::vector<Block> blocks_;
  int64_t dimension_ = 0, largest_ = 0;
  mutable Tensor workspace_;  // one transform's values: a step needs no other room
};

}  // namespace graft
