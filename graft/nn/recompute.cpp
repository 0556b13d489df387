#include "graft/nn/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <optional>
#include <utility>

#include "graft/base/error.h"
#include "graft/nn/part_run.h"

namespace graft {
namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Node;
using torch::autograd::variable_list;

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
    const PartRun run = PartRun::of([&](const Tensor& x) { return part_(x, dropout); }, x_);
    if (run.exits.size() != out.size()) {
      throw InternalError("recompute", "{} places with gradients, {} in the first run", run.exits.size(),
                          out.size());
    }
    return run.gradients(gradients[0]);
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
    const PartRun run = PartRun::of([&](const Tensor& given) { return part(given, dropout); }, x);
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
