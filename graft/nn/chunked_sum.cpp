#include "graft/nn/chunked_sum.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <utility>

#include "graft/base/error.h"
#include "graft/nn/part_run.h"

namespace graft {
namespace {

using torch::autograd::Edge;
using torch::autograd::edge_list;
using torch::autograd::Node;
using torch::autograd::variable_list;

/// A tensor that nobody else has, to be written to.
Tensor own(Tensor x) {
  const bool alone = x.use_count() == 1 && x.storage().use_count() == 1 && x.is_non_overlapping_and_dense() &&
                     !x.is_sparse();
  return alone ? x : x.clone();
}

/// The chunks' gradients: x's rows in their places, everything else's added up.
class Gathered {
 public:
  explicit Gathered(const Tensor& x) {
    if (!x.requires_grad()) return;
    edges_.push_back(torch::autograd::impl::gradient_edge(x));
    sums_.push_back(at::zeros(x.sizes(), x.options().requires_grad(false)));
    of_x_ = true;
  }
  void add(const PartRun& run, int64_t first) {
    if (run.exits.empty()) return;
    const at::NoGradGuard no_grad;
    std::vector<Tensor> gradients = run.gradients(at::ones_like(run.y));
    const Edge of_rows = of_x_ ? torch::autograd::impl::gradient_edge(run.x) : Edge();
    for (size_t i = 0; i < gradients.size(); ++i) {
      Tensor gradient = std::exchange(gradients[i], Tensor());
      if (!gradient.defined()) continue;
      if (of_x_ && run.exits[i].edge == of_rows) {
        sums_[0].narrow(0, first, run.x.size(0)).add_(gradient);
      } else {
        add(run.exits[i].edge, std::move(gradient));
      }
    }
  }
  bool empty() const { return edges_.empty(); }
  edge_list edges() const { return edges_; }
  variable_list take() { return std::move(sums_); }

 private:
  void add(const Edge& edge, Tensor gradient) {
    const auto known = std::find(edges_.begin(), edges_.end(), edge);
    if (known != edges_.end()) {
      sums_[static_cast<size_t>(known - edges_.begin())].add_(gradient);
      return;
    }
    edges_.push_back(edge);
    sums_.push_back(own(std::move(gradient)));
  }

  edge_list edges_;
  variable_list sums_;
  bool of_x_ = false;
};

class ChunkedSumNode : public Node {
 public:
  explicit ChunkedSumNode(variable_list gradients) : gradients_(std::move(gradients)) {}

  variable_list apply(variable_list&& gradients) override {
    if (gradients_.empty()) throw InternalError("chunked_sum", "a second backward pass, expected one");
    variable_list out = std::exchange(gradients_, {});
    if (!gradients[0].defined()) return variable_list(out.size());
    const at::NoGradGuard no_grad;
    for (Tensor& gradient : out) gradient.mul_(gradients[0]);
    return out;
  }
  void release_variables() override { gradients_.clear(); }
  std::string name() const override { return "ChunkedSum"; }

 private:
  variable_list gradients_;
};

}  // namespace

Tensor chunked_sum(const RowsSum& part, const Tensor& x, int64_t rows) {
  const bool wanted = at::GradMode::is_enabled();
  Gathered gathered(wanted ? x : x.detach());
  double sum = 0;
  at::TensorOptions type;
  int64_t first = 0;
  do {
    const int64_t count = std::min(rows, x.size(0) - first);
    Tensor chunk = x.detach().narrow(0, first, count);
    chunk.set_requires_grad(wanted && x.requires_grad());
    const PartRun run = PartRun::of([&](const Tensor& given) { return part(given, first); }, chunk);
    sum += run.y.item<double>();
    type = run.y.options().requires_grad(false);
    gathered.add(run, first);
    first += count;
  } while (first < x.size(0));
  Tensor out = at::scalar_tensor(sum, type);
  if (!wanted || gathered.empty()) return out;
  edge_list edges = gathered.edges();
  const auto node = c10::make_intrusive<ChunkedSumNode>(gathered.take());
  node->set_next_edges(std::move(edges));
  torch::autograd::set_history(out, node);
  return out;
}

}  // namespace graft
