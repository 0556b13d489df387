// One run of a part of a network on an input of its own, whose gradients can be asked for by themselves.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace graft {

using at::Tensor;

/// Where a part's graph reaches beyond the part: node `from` hands its gradient number `index` to `edge`.
struct Exit {
  torch::autograd::Node* from = nullptr;
  size_t index = 0;
  torch::autograd::Edge edge;
};

struct PartRun {
  Tensor x, y;              // x: a leaf of this run
  std::vector<Exit> exits;  // in the order in which the backward pass comes to them; empty without a gradient

  static PartRun of(const std::function<Tensor(const Tensor& x)>& part, const Tensor& x);
  /// Gradients at all exits, each use's by itself. Once a run: the graph is freed.
  std::vector<Tensor> gradients(const Tensor& d_y) const;

 private:
  void find_exits(uint64_t first);
};

}  // namespace graft
