#include "graft/nn/part_run.h"

#include <ATen/ATen.h>
#include <ATen/SequenceNumber.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace graft {
namespace {

using torch::autograd::AccumulateGrad;
using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Node;
using torch::autograd::variable_list;

/// Takes the gradients that a node hands beyond the part, each use's by itself: their sum is made where it is
/// made without recomputation.
class TakeGradients : public torch::autograd::FunctionPostHook {
 public:
  TakeGradients(variable_list& taken, size_t first, std::vector<size_t> indices)
      : taken_(taken), first_(first), indices_(std::move(indices)) {}
  variable_list operator()(const variable_list& gradients, const variable_list&) override {
    variable_list rest = gradients;
    for (size_t i = 0; i < indices_.size(); ++i)
      taken_[first_ + i] = std::exchange(rest[indices_[i]], Tensor());
    return rest;
  }

 private:
  variable_list& taken_;
  size_t first_;
  std::vector<size_t> indices_;
};

}  // namespace

PartRun PartRun::of(const std::function<Tensor(const Tensor& x)>& part, const Tensor& x) {
  PartRun run;
  run.x = x.detach();
  run.x.set_requires_grad(x.requires_grad());
  const uint64_t first = at::sequence_number::peek();
  run.y = part(run.x);
  if (run.y.requires_grad()) run.find_exits(first);
  return run;
}

/// Nodes of the part are those that are younger than it; the backward pass goes from young to old.
void PartRun::find_exits(uint64_t first) {
  const auto inside = [first](const Node& node) {
    return dynamic_cast<const AccumulateGrad*>(&node) == nullptr && node.sequence_nr() >= first;
  };
  std::vector<Node*> nodes;
  std::unordered_set<Node*> seen;
  const auto visit = [&](Node* node) {
    if (seen.insert(node).second) nodes.push_back(node);
  };
  visit(y.grad_fn().get());
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Edge& edge : nodes[i]->next_edges()) {
      if (edge.is_valid() && inside(*edge.function)) visit(edge.function.get());
    }
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const Node* a, const Node* b) { return a->sequence_nr() > b->sequence_nr(); });
  for (Node* node : nodes) {
    const edge_list& edges = node->next_edges();
    for (size_t i = 0; i < edges.size(); ++i) {
      if (edges[i].is_valid() && !inside(*edges[i].function)) exits.push_back({node, i, edges[i]});
    }
  }
}

std::vector<Tensor> PartRun::gradients(const Tensor& d_y) const {
  variable_list taken(exits.size());
  edge_list ends;
  for (size_t i = 0; i < exits.size();) {
    Node* const from = exits[i].from;
    const size_t first = i;
    std::vector<size_t> indices;
    for (; i < exits.size() && exits[i].from == from; ++i) {
      indices.push_back(exits[i].index);
      const Edge& edge = exits[i].edge;
      if (std::find(ends.begin(), ends.end(), edge) == ends.end()) ends.push_back(edge);
    }
    from->add_post_hook(std::make_unique<TakeGradients>(taken, first, std::move(indices)));
  }
  torch::autograd::Engine::get_default_engine().execute({torch::autograd::impl::gradient_edge(y)}, {d_y},
                                                        false, false, false, ends);
  return taken;
}

}  // namespace graft
