#include "graft/nn/recompute.h"

#include <ATen/ATen.h>
#include <ATen/SequenceNumber.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "graft/base/error.h"

namespace graft {
namespace {

using torch::autograd::AccumulateGrad;
using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Node;
using torch::autograd::variable_list;

/// Where a part's graph reaches beyond the part: node `from` hands its gradient number `index` to `edge`.
struct Exit {
  Node* from = nullptr;
  size_t index = 0;
  Edge edge;
};

/// One run of a part on an x of its own, with its graph.
struct PartRun {
  Tensor x, y;
  std::vector<Exit> exits;  // in the order in which the backward pass comes to them

  static PartRun of(const Part& part, const Tensor& x, RandomStream* dropout) {
    PartRun run;
    run.x = x.detach();
    run.x.set_requires_grad(x.requires_grad());
    const uint64_t first = at::sequence_number::peek();
    run.y = part(run.x, dropout);
    if (run.y.requires_grad()) run.find_exits(first);
    return run;
  }

 private:
  /// Nodes of the part are those that are younger than it; the backward pass goes from young to old.
  void find_exits(uint64_t first) {
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
};

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

/// Gradients at all exits.
variable_list gradients_of(const PartRun& run, const Tensor& d_y) {
  variable_list taken(run.exits.size());
  edge_list ends;
  for (size_t i = 0; i < run.exits.size();) {
    Node* const from = run.exits[i].from;
    const size_t first = i;
    std::vector<size_t> indices;
    for (; i < run.exits.size() && run.exits[i].from == from; ++i) {
      indices.push_back(run.exits[i].index);
      const Edge& edge = run.exits[i].edge;
      if (std::find(ends.begin(), ends.end(), edge) == ends.end()) ends.push_back(edge);
    }
    from->add_post_hook(std::make_unique<TakeGradients>(taken, first, std::move(indices)));
  }
  torch::autograd::Engine::get_default_engine().execute({torch::autograd::impl::gradient_edge(run.y)}, {d_y},
                                                        false, false, false, ends);
  return taken;
}

class RecomputeNode : public Node {
 public:
  RecomputeNode(Part part, Tensor x, std::optional<RandomStream> dropout)
      : part_(std::move(part)), x_(std::move(x)), dropout_(dropout) {}

  variable_list apply(variable_list&& gradients) override {
    if (!part_) throw InternalError("recompute", "a second backward pass, expected one");
    variable_list out(num_outputs());
    if (!gradients[0].defined()) return out;
    const at::AutoGradMode graph(true);
    RandomStream* const dropout = dropout_ ? &*dropout_ : nullptr;
    const PartRun run = PartRun::of(part_, x_, dropout);
    if (run.exits.size() != out.size()) {
      throw InternalError("recompute", "{} places with gradients, {} in the first run", run.exits.size(),
                          out.size());
    }
    return gradients_of(run, gradients[0]);
  }
  void release_variables() override {
    part_ = nullptr;
    x_.reset();
  }
  std::string name() const override { return "Recompute"; }

 private:
  Part part_;
  Tensor x_;
  std::optional<RandomStream> dropout_;  // as it stood before the part
};

thread_local int64_t recomputed_blocks = 0;

}  // namespace

RecomputeGuard::RecomputeGuard(int64_t blocks) : before_(std::exchange(recomputed_blocks, blocks)) {}
RecomputeGuard::~RecomputeGuard() { recomputed_blocks = before_; }
int64_t RecomputeGuard::blocks() { return recomputed_blocks; }

Tensor recomputed(const Part& part, const Tensor& x, RandomStream* dropout) {
  if (!at::GradMode::is_enabled()) return part(x, dropout);
  std::optional<RandomStream> before;
  if (dropout != nullptr) before = *dropout;
  Tensor y;
  c10::intrusive_ptr<RecomputeNode> node;
  {
    const PartRun run = PartRun::of(part, x, dropout);
    y = run.y.detach();
    if (run.exits.empty()) return y;
    const Tensor kept = run.x.detach().set_requires_grad(x.requires_grad());
    node = c10::make_intrusive<RecomputeNode>(part, kept, before);
    edge_list edges;
    std::optional<Edge> of_x;  // the run's own x; its gradient goes on to the given one
    if (x.requires_grad()) of_x = torch::autograd::impl::gradient_edge(run.x);
    for (const Exit& exit : run.exits) {
      edges.push_back(of_x && exit.edge == *of_x ? torch::autograd::impl::gradient_edge(x) : exit.edge);
    }
    node->set_next_edges(std::move(edges));
  }
  torch::autograd::set_history(y, node);
  return y;
}

}  // namespace graft
